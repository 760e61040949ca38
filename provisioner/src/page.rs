//! The page: HTML from values. Complete without JavaScript; with it, the part that changes is
//! fetched again when something happened. Nothing comes from elsewhere. A file each for what it shows;
//! here is what they have in common.

mod act;
mod approvals;
mod console;
pub mod groups;
mod hardware;
pub mod jobs;
mod machine;
pub mod miners;
mod overview;
mod sign;
mod style;
mod text;
mod timeline;
mod work;

pub use approvals::{Asks, approvals};
pub use machine::{Deaths, Machine, Part, REVOKE, machine};
use maud::{DOCTYPE, Markup, PreEscaped, html};
pub use overview::{Seen, overview};
use protocol::{
    PublicKey,
    boot::StageState,
    fleet::{MachineStatus, UpstreamStatus},
};
pub use sign::sign_in;
use std::collections::BTreeMap;
pub use text::moment;

/// The pages that each page leads to.
const PAGES: [(&str, &str); 4] =
    [("/", "Machines"), ("/approvals", "Approvals"), ("/jobs", "Jobs"), ("/groups", "Groups")];

/// MAC addresses and names of machines, by their node keys.
pub type Names = BTreeMap<PublicKey, (String, String)>;

/// Where a machine stands, at a glance.
fn state_tag(machine: &MachineStatus) -> Markup {
    let state = machine.life.state;
    html! { span class={ "stands " (state.as_str()) } { (state.as_str()) } }
}

/// What of a page is kept as it is now, where there is a script: of one machine, or of all. `place` is
/// where it is, where the page's own address is another.
fn live(mac: Option<&str>, place: Option<&str>, body: Markup) -> Markup {
    html! { div #live data-mac=[mac] data-place=[place] { (body) } }
}

/// A page that shows what goes on: without JavaScript it is loaded anew now and then.
fn watched(title: &str, at: &str, operator: Option<&str>, main: Markup) -> Markup {
    frame(title, at, operator, true, main)
}

/// A page on which somebody writes. `at` is the one of [`PAGES`] that it belongs to.
fn page(title: &str, at: &str, operator: Option<&str>, main: Markup) -> Markup {
    frame(title, at, operator, false, main)
}

fn frame(title: &str, at: &str, operator: Option<&str>, anew: bool, main: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                // An empty icon, so that browsers ask for none.
                link rel="icon" href="data:,";
                style { (PreEscaped(style::STYLE)) }
                @if anew { noscript { meta http-equiv="refresh" content="10"; } }
            }
            body {
                a.skip href="#main" { "To the content" }
                header { div {
                    h1 { a href="/" { "aliaOS" } }
                    nav aria-label="Pages" {
                        @for (path, name) in PAGES {
                            a href=(path) aria-current=[(path == at).then_some("page")] { (name) }
                        }
                    }
                    span #link.quiet role="status" {}
                    @match operator {
                        None => { a.end href="/sign-in" { "Sign in" } },
                        Some(operator) => {
                            form.end method="post" action="/sign-out" {
                                span.quiet { (operator) }
                                button type="submit" { "Sign out" }
                            }
                        },
                    }
                } }
                (main)
                script { (PreEscaped(style::SCRIPT)) }
            }
        }
    }
}

/// Those who do not answer, and why.
fn silent(upstream: &UpstreamStatus) -> Markup {
    let ledger = upstream.ledger.iter().map(|ledger| ("Ledger", &ledger.url, &ledger.error));
    let servers = upstream
        .parameter_servers
        .iter()
        .map(|server| ("Parameter server", &server.url, &server.error));
    html! {
        @for (who, url, error) in ledger.chain(servers) {
            @if let Some(error) = error {
                p.problem role="alert" { (who) " " code { (url) } " does not answer: " (error) }
            }
        }
    }
}

/// What is wrong with a machine, or that its key waits, which says the same and what to do.
fn trouble(machine: &MachineStatus) -> Markup {
    html! {
        @if let Some(pending) = &machine.pending {
            p.problem role="alert" {
                "Node key " code { (pending.short()) } " waits for approval: "
                a href="/approvals" { "approve it here" } ", or by "
                code { "alia node approve " (machine.name) } "."
            }
        } @else if let Some(problem) = &machine.problem {
            p.problem role="alert" { (problem) }
        }
    }
}

fn state(state: StageState) -> &'static str {
    match state {
        StageState::Started => "started",
        StageState::Done => "done",
        StageState::Retrying => "retrying",
        StageState::Failed => "failed",
    }
}

fn state_text(state: StageState) -> &'static str {
    match state {
        StageState::Started => "runs",
        StageState::Done => "done",
        StageState::Retrying => "tries again",
        StageState::Failed => "failed",
    }
}
