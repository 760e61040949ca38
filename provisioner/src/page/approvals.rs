//! The machines that wait for somebody's word.

use super::{act, hardware, live, page, text::ago};
use crate::{hardware::Hardware, life::Cause};
use maud::{Markup, html};
use protocol::fleet::MachineStatus;

/// A machine that asks to be taken in.
pub struct Asks {
    /// The machine.
    pub machine: MachineStatus,
    /// What was approved of its hardware, and what it comes with.
    pub hardware: (Option<Hardware>, Option<Hardware>),
}

/// `GET /approvals`.
///
/// `next` is where the list goes on.
pub fn approvals(waiting: &[Asks], next: Option<&str>, operator: Option<&str>, now: u64) -> Markup {
    let body = html! {
        @if waiting.is_empty() {
            p.none { strong { "Nobody waits." } " A machine is here when it asks to be taken in and no rule lets it." }
        } @else {
            p { "Anybody on the network can ask in a machine's name: compare each key with the one on the machine's own display." }
            @if operator.is_none() {
                p { a href="/sign-in?to=/approvals" { "Sign in" } " as an operator to approve." }
            }
        }
        @for asks in waiting { (card(asks, operator, now)) }
        @if let Some(next) = next { p { a rel="next" href=(next) { "More machines" } } }
    };
    page(
        "Approvals · aliaOS",
        "/approvals",
        operator,
        html! {
            main #main {
                h2 { "Waiting for approval" }
                (live(None, None, body))
            }
        },
    )
}

fn card(asks: &Asks, operator: Option<&str>, now: u64) -> Markup {
    let Asks { machine, hardware: (before, came) } = asks;
    let changed = before.as_ref().zip(came.as_ref());
    let changed = changed.map_or(vec![], |(before, came)| before.changes_to(came));
    html! {
        article.card.machine.pending id={ "asks-" (machine.mac) } {
            div.row {
                h3 { a href={ "/machines/" (machine.mac) } { (machine.name) } }
                span.quiet { code { (machine.mac) } }
                @if let Some(address) = &machine.address { span.quiet { code { (address) } } }
                span.end.quiet { "asked " (ago(now, machine.life.since)) }
            }
            @if let Some(node) = &machine.pending {
                p { "Key " code.long { (node) } }
            }
            @if before.is_some() && changed.is_empty() && came.is_some() {
                p.quiet { "Its hardware is what was approved; its key is another." }
            }
            (hardware::changes(&changed))
            @if let Some(came) = came { (hardware::claimed(came)) }
            @if machine.pending.is_none() && let Some(problem) = &machine.problem {
                p.problem { (problem) }
            }
            @if operator.is_some() && machine.pending.is_some() {
                div.actions id={ "act-" (machine.mac) } {
                    (act::form(machine, Cause::Approve, "approvals"))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::PublicKey;

    #[test]
    fn the_queue_says_what_changed_of_a_machines_hardware() {
        let machine = MachineStatus {
            pending: Some(PublicKey([1; 32])),
            ..super::super::machine::tests::status()
        };
        let of = |cpu: &str| Some(Hardware { cpu: cpu.into(), ..Hardware::default() });
        let shown = |before| {
            let asks = Asks { machine: machine.clone(), hardware: (before, of("<B>")) };
            approvals(&[asks], None, Some("anna"), 0).into_string()
        };
        let page = shown(of("A"));
        assert!(page.contains("processor: A -&gt; &lt;B&gt;") && !page.contains("<B>"), "{page}");
        assert!(shown(of("<B>")).contains("is what was approved; its key is another"));
        assert!(!shown(None).contains("what was approved"));
    }
}
