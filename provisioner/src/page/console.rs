//! A machine's console: its last lines, or those that were sought, which a URL says. A script, where there
//! is one, appends what comes, and nobody else changes them then.

use super::{machine::Machine, text::moment};
use maud::{Markup, html};
use protocol::console::ConsoleEntry;
use url::form_urlencoded;

/// The console of a machine's page.
pub(super) fn section(shown: &Machine) -> Markup {
    let mac = &shown.detail.machine.mac;
    let console = &shown.console;
    let (search, boot, before) = &shown.sought;
    let whole = search.is_empty() && boot.is_none() && before.is_none();
    html! {
        section #console {
            h3 { "Console" }
            form.search method="get" action={ "/machines/" (mac) "#console" } role="search" {
                label { "Search " input type="search" name="search" value=(search) maxlength="100"
                    placeholder="words of a line"; }
                label { "Boot "
                    select name="boot" {
                        option value="" { "any" }
                        @for each in &console.boots {
                            option value=(each.boot) selected[Some(each.boot) == *boot] {
                                (moment(each.began)) ", " (each.lines) " lines"
                            }
                        }
                    }
                }
                button type="submit" { "Show lines" }
                @if !whole { a href={ "/machines/" (mac) "#console" } { "Newest" } }
            }
            @if console.lines.is_empty() {
                @if whole {
                    p.none { "Nothing came of it yet. A machine sends its console's lines once it is taken in." }
                } @else {
                    p.none { "No line of it is so." }
                }
            }
            @if shown.before && let Some(first) = console.lines.first() {
                p { a rel="prev" href=(older(shown, first)) { "Older lines" } }
            } @else if console.gone > 0 && whole {
                p.quiet { (console.gone) " older lines went, to make room." }
            }
            @if shown.before && console.gone > 0 {
                p.quiet { (console.gone) " older lines went, to make room." }
            }
            ol.console #lines tabindex="0" aria-label="Lines of the console"
                data-mac=[whole.then_some(mac)] data-own[whole]
                data-last=(console.lines.last().map_or(0, |line| line.id)) {
                @for line in &console.lines { (entry(line)) }
            }
        }
    }
}

fn entry(line: &ConsoleEntry) -> Markup {
    let grave = line.level.is_some_and(|level| level <= 3);
    html! {
        @if line.missing > 0 { li.gap { "lines are missing here: " (line.missing) } }
        li class=[grave.then_some("grave")] {
            span.quiet { (format!("{:.3}", line.at_ms as f64 / 1e3)) " " (line.source.as_str()) " " }
            (line.text)
        }
    }
}

/// Where the lines before that one are.
fn older(shown: &Machine, first: &ConsoleEntry) -> String {
    let (search, boot, _) = &shown.sought;
    let mut query = form_urlencoded::Serializer::new(String::new());
    if !search.is_empty() {
        query.append_pair("search", search);
    }
    query.extend_pairs(boot.map(|boot| ("boot", boot.to_string())));
    query.append_pair("before", &first.id.to_string());
    format!("/machines/{}?{}#console", shown.detail.machine.mac, query.finish())
}
