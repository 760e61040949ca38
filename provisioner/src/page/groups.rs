//! Groups of machines, and the history of the configuration: to read, and for operators to change.

use super::{
    page,
    text::{count, moment},
};
use crate::groups::{self, Document, Group, Json, Placed};
use maud::{Markup, html};
use protocol::configuration::{Change, History, Member};
use std::collections::BTreeMap;

/// Changes that are shown.
const CHANGES: usize = 500;

/// The configuration as a page is made of it.
pub struct Configuration {
    /// Its revision.
    pub revision: u64,
    /// The document.
    pub document: Document,
    /// Where rules put machines.
    pub placed: BTreeMap<String, Placed>,
}

impl Configuration {
    /// How many machines a group has.
    fn count(&self, group: &str) -> usize {
        groups::members(&self.document, &self.placed, group).len()
    }
}

/// A page of a group's machines.
pub struct Members {
    /// How many it has.
    pub all: usize,
    /// Those of this page.
    pub page: Vec<Member>,
    /// Behind which there are more.
    pub next: Option<String>,
}

/// What could not be done, and what somebody wrote who tried.
#[derive(Default)]
pub struct Tried<'a> {
    /// Why not.
    pub wrong: Option<&'a str>,
    /// What was written.
    pub text: Option<&'a str>,
}

/// `GET /groups`.
pub fn list(configuration: &Configuration, operator: Option<&str>, wrong: Option<&str>) -> Markup {
    page(
        "Groups · aliaOS",
        "/groups",
        operator,
        html! {
            main #main {
                h2 { "Groups" }
                @if let Some(wrong) = wrong { p.problem role="alert" { (wrong) } }
                @if configuration.document.group.is_empty() {
                    p.none { strong { "None yet." } " Machines of a group have settings in common: network, disks, whose they are. An operator makes one below; what can be set is in docs/configuration.md." }
                }
                @for (name, group) in &configuration.document.group {
                    article.card {
                        div.row {
                            h3 { a href={ "/groups/" (name) } { (name) } }
                            @if !group.about.is_empty() { span.quiet { (group.about) } }
                            span.end.quiet { (count(configuration.count(name), "machine")) ", "
                                (count(group.values.len(), "setting")) }
                        }
                        (labels(group))
                    }
                }
                @if operator.is_some() {
                    details {
                        summary { "New group…" }
                        form.stack method="post" action="/groups" {
                            (meant(configuration.revision))
                            label for="name" { "Name" }
                            input #name name="name" required maxlength="64" autocomplete="off" spellcheck="false";
                            button.first type="submit" { "Make group" }
                        }
                    }
                } @else {
                    p.quiet { a href="/sign-in?to=/groups" { "Sign in" } " as an operator to change them." }
                }
                h3 { "The whole configuration" }
                p {
                    "It is at revision " (configuration.revision) ": "
                    a href="/history" { "its history" } ", or "
                    a href="/v1/config/export" download="fleet.toml" { "export it as one file" } "."
                }
                @if operator.is_some() {
                    details {
                        summary { "Import a file…" }
                        p { "It takes the place of all that is configured now. What it would change is shown first." }
                        (import_form(configuration.revision, "", "", true))
                    }
                }
            }
        },
    )
}

/// The form of an import: to look at what it would change, or to do it.
fn import_form(revision: u64, text: &str, why: &str, look: bool) -> Markup {
    html! {
        form.stack method="post" action="/import" {
            (meant(revision))
            @if look {
                input type="file" hidden disabled data-into="file" accept=".toml,.json,text/*"
                    aria-label="The file";
            }
            label for="file" { "What an export gave, as TOML or JSON" }
            textarea #file name="file" rows="12" required spellcheck="false" autocomplete="off" { (text) }
            label for="import-why" { "Why" }
            input #import-why name="why" value=(why) maxlength="200" autocomplete="off";
            @if look {
                button.first type="submit" name="look" value="true" { "Show what it changes" }
            } @else {
                div.actions {
                    button.grave type="submit" { "Import it" }
                    button type="submit" name="look" value="true" { "Look again" }
                }
            }
        }
    }
}

/// A file that somebody wants to import, and what it changes, or why it is not taken.
pub struct Import<'a> {
    /// The revision that it is for.
    pub revision: u64,
    /// The file.
    pub text: &'a str,
    /// Why it is imported.
    pub why: &'a str,
    /// What it would change.
    pub changes: Result<&'a [Change<Json>], &'a str>,
}

/// `POST /import`, before it is done.
pub fn import(shown: &Import<'_>, operator: &str) -> Markup {
    let Import { revision, text, why, changes } = shown;
    page(
        "Import · aliaOS",
        "/groups",
        Some(operator),
        html! {
            main #main {
                h2 { "Import of the configuration" }
                @match changes {
                    Err(wrong) => p.problem role="alert" { (wrong) },
                    Ok([]) => p.none { "It is what is configured already: importing it changes nothing." },
                    Ok(changes) => {
                        p { "It changes " strong { (count(changes.len(), "value")) } ", and nothing is changed yet:" }
                        ul.changes { @for change in changes.iter().take(CHANGES) { (line(change)) } }
                        @if changes.len() > CHANGES { p.quiet { "and " (changes.len() - CHANGES) " more" } }
                    },
                }
                (import_form(*revision, text, why, changes.as_ref().map_or(true, |changes| changes.is_empty())))
                p { a href="/groups" { "Back, and import nothing" } }
            }
        },
    )
}

/// `GET /groups/{name}`. `text` is the group's table as TOML.
pub fn group(
    configuration: &Configuration,
    name: &str,
    (text, members): (&str, &Members),
    operator: Option<&str>,
    tried: &Tried<'_>,
) -> Markup {
    let empty = Group::default();
    let group = configuration.document.group.get(name).unwrap_or(&empty);
    page(
        &format!("{name} · aliaOS"),
        "/groups",
        operator,
        html! {
            main #main {
                h2 { "Group " bdi { (name) } }
                @if let Some(wrong) = tried.wrong { p.problem role="alert" { (wrong) } }
                @if !group.about.is_empty() { p { (group.about) } }
                (labels(group))
                h3 { "Settings" }
                @if group.values.is_empty() { p.quiet { "None." } } @else {
                    dl { @for (key, value) in &group.values { dt { (key) } dd { code { (value) } } } }
                }
                @if operator.is_some() {
                    details open[tried.wrong.is_some()] {
                        summary { "Change…" }
                        form.stack method="post" action={ "/groups/" (name) "/set" } {
                            (meant(configuration.revision))
                            label for="table" { "Its table, as TOML" }
                            textarea #table name="table" rows="12" spellcheck="false" autocomplete="off" {
                                (tried.text.unwrap_or(text))
                            }
                            label for="why" { "Why" }
                            input #why name="why" maxlength="200" autocomplete="off";
                            button.first type="submit" { "Set " (name) }
                        }
                    }
                    details {
                        summary { "Delete…" }
                        p { "Its machines have its settings no more." }
                        form method="post" action={ "/groups/" (name) "/delete" } {
                            (meant(configuration.revision))
                            button.grave type="submit" { "Delete " (name) }
                        }
                    }
                } @else {
                    p.quiet { a href={ "/sign-in?to=/groups/" (name) } { "Sign in" } " as an operator to change it." }
                }
                h3 #machines { "Machines: " (members.all) }
                @if members.all == 0 {
                    p.none { "None. A machine's own table names its groups, or the rule that lets it in." }
                }
                ul { @for member in &members.page {
                    li {
                        a href={ "/machines/" (member.mac) } { (member.name.as_ref().unwrap_or(&member.mac)) }
                        " " code { (member.mac) }
                    }
                } }
                @if let Some(next) = &members.next {
                    p { a rel="next" href={ "/groups/" (name) "?after=" (next) "#machines" } { "More machines" } }
                }
                p { a href="/history" { "History of the configuration" } }
            }
        },
    )
}

/// `GET /history`.
///
/// `next` is the revision before which there are more.
pub fn history(history: &History, next: Option<u64>, operator: Option<&str>) -> Markup {
    page(
        "History · aliaOS",
        "/groups",
        operator,
        html! {
            main #main {
                h2 { "History of the configuration" }
                @if history.revisions.is_empty() { p.none { strong { "Nobody changed anything yet." } " Each change will be here, with who made it and why." } }
                div.wide { table.rows {
                    thead { tr { th.number { "Revision" } th { "When (UTC)" } th { "Who" } th { "Why" } } }
                    tbody { @for revision in &history.revisions { tr {
                        td.number { a href={ "/history/" (revision.revision) } { (revision.revision) } }
                        td.when { (moment(revision.at)) }
                        td { (revision.actor) }
                        td.text { (revision.why) }
                    } } }
                } }
                @if let Some(next) = next {
                    p { a rel="next" href={ "/history?before=" (next) } { "Older revisions" } }
                }
                @if history.dropped > 0 { p.quiet { (history.dropped) " older ones are not kept any more." } }
            }
        },
    )
}

/// A revision, and what it changed.
pub struct Revised {
    /// Its number.
    pub revision: u64,
    /// What differs.
    pub changes: Vec<Change<Json>>,
    /// From which.
    pub from: u64,
    /// The one that holds now.
    pub current: u64,
}

/// `GET /history/{revision}`.
pub fn revision(shown: &Revised, operator: Option<&str>, wrong: Option<&str>) -> Markup {
    let Revised { revision, changes, from, current } = shown;
    page(
        &format!("Revision {revision} · aliaOS"),
        "/groups",
        operator,
        html! {
            main #main {
                h2 { "Revision " (revision) @if revision == current { ", which holds" } }
                @if let Some(wrong) = wrong { p.problem role="alert" { (wrong) } }
                form.search method="get" action={ "/history/" (revision) } {
                    label { "Compared with revision "
                        input type="number" name="from" min="0" value=(from) style="width: 7rem"; }
                    button type="submit" { "Show" }
                }
                @if changes.is_empty() { p.quiet { "Nothing differs." } } @else {
                    ul.changes { @for change in changes.iter().take(CHANGES) { (line(change)) } }
                }
                @if changes.len() > CHANGES {
                    p.quiet { "and " (changes.len() - CHANGES) " more: " code { "alia fleet groups diff" } }
                }
                @if operator.is_some() && revision != current {
                    details {
                        summary { "Roll back…" }
                        p { "Revision " (revision) "'s document becomes a new revision. What was changed since holds no more." }
                        form method="post" action={ "/history/" (revision) "/rollback" } {
                            (meant(*current))
                            button.grave type="submit" { "Roll back to revision " (revision) }
                        }
                    }
                }
                p { a href="/history" { "All revisions" } }
            }
        },
    )
}

fn line(change: &Change<Json>) -> Markup {
    html! {
        li {
            code { (change.at) } " "
            @if let Some(before) = &change.before { del { code { (before) } } " " }
            @if let Some(after) = &change.after { ins { code { (after) } } }
        }
    }
}

/// What a change was made for: another revision is not changed.
fn meant(revision: u64) -> Markup {
    html! { input type="hidden" name="revision" value=(revision); }
}

fn labels(group: &Group) -> Markup {
    html! {
        @if !group.labels.is_empty() {
            p.quiet { @for (name, value) in &group.labels { code { (name) "=" (value) } " " } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_configuration_says_cannot_become_markup() {
        let document =
            Document { group: [("a".to_owned(), Group::default())].into(), ..Document::default() };
        let configuration = Configuration { revision: 4, document, placed: BTreeMap::new() };
        let mac = "52:54:00:00:00:01".to_owned();
        let bear = Member { mac: mac.clone(), name: Some("<bear>".into()), rule: None };
        let members = Members { all: 2, page: vec![bear], next: Some(mac) };
        let tried = Tried { wrong: Some("<b>"), text: Some("</textarea><b>") };
        let shown = ("", &members);
        let page = group(&configuration, "a", shown, Some("anna"), &tried).into_string();
        assert!(page.contains("&lt;bear&gt;") && !page.contains("<b>"), "{page}");
        assert!(page.contains("name=\"revision\" value=\"4\""), "{page}");
        assert!(page.contains("/groups/a?after=52:54:00:00:00:01#machines"), "{page}");
        let read = group(&configuration, "a", shown, None, &Tried::default()).into_string();
        assert!(!read.contains("<textarea"), "{read}");
    }
}
