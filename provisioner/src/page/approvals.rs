//! The machines that wait for somebody's word.

use super::{act, page, text::ago};
use crate::life::Cause;
use maud::{Markup, html};
use protocol::fleet::MachineStatus;

/// `GET /approvals`.
///
/// `next` is where the list goes on.
pub fn approvals(
    waiting: &[MachineStatus],
    next: Option<&str>,
    operator: Option<&str>,
    now: u64,
) -> Markup {
    page(
        "Approvals · aliaOS",
        operator,
        html! {
            main {
                h2 { "Waiting for approval" }
                @if waiting.is_empty() {
                    p.quiet { "Nobody waits. A machine is here when it asks to be taken in and no rule lets it." }
                } @else {
                    p { "Anybody on the network can ask in a machine's name: compare each key with the one on the machine's own display." }
                }
                @if operator.is_none() && !waiting.is_empty() {
                    p { a href="/sign-in?to=/approvals" { "Sign in" } " as an operator to approve." }
                }
                @for machine in waiting {
                    article.card {
                        div.row {
                            h3 { a href={ "/machines/" (machine.mac) } { (machine.name) } }
                            span.quiet { code { (machine.mac) } }
                            @if let Some(address) = &machine.address { span.quiet { code { (address) } } }
                            span.end.quiet { "waits since " (ago(now, machine.life.since)) }
                        }
                        @if let Some(node) = &machine.pending {
                            p { "Key " code.long { (node) } }
                        }
                        @if machine.pending.is_none() && let Some(problem) = &machine.problem {
                            p.problem { (problem) }
                        }
                        @if operator.is_some() && machine.pending.is_some() {
                            div.actions {
                                (act::form(machine, Cause::Approve, "approvals"))
                            }
                        }
                    }
                }
                @if let Some(next) = next { p { a rel="next" href=(next) { "More machines" } } }
            }
        },
    )
}
