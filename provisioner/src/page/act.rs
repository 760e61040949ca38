//! What an operator may do to a machine: a form each, which works without a script. What loses work
//! asks once more, by a part that opens.

use crate::life::{self, Cause};
use maud::{Markup, html};
use protocol::fleet::MachineStatus;

/// The actions of a machine in its state; for who is no operator, where to sign in.
pub(super) fn actions(machine: &MachineStatus, operator: Option<&str>) -> Markup {
    if operator.is_none() {
        let to = format!("/sign-in?to=/machines/{}", machine.mac);
        return html! { p.quiet { a href=(to) { "Sign in" } " as an operator to act on it." } };
    }
    let causes = life::commands(machine.life.state).filter(|cause| {
        // There is nothing to approve where no key waits.
        *cause != Cause::Approve || machine.pending.is_some()
    });
    html! {
        div.actions role="group" aria-label="Actions" {
            @for cause in causes {
                @match warning(cause) {
                    None => { (form(machine, cause, "machine")) },
                    Some(warning) => {
                        details {
                            summary { (name(cause)) "…" }
                            p { (warning) }
                            (form(machine, cause, "machine"))
                        }
                    },
                }
            }
        }
    }
}

/// The form that asks for one thing; `from` says which page shows it.
pub(super) fn form(machine: &MachineStatus, cause: Cause, from: &str) -> Markup {
    html! {
        form method="post" action={ "/machines/" (machine.mac) "/do" } {
            input type="hidden" name="do" value=(cause.as_str());
            input type="hidden" name="state" value=(machine.life.state.as_str());
            input type="hidden" name="since" value=(machine.life.since);
            input type="hidden" name="from" value=(from);
            @if let Some(node) = machine.pending.filter(|_| cause == Cause::Approve) {
                input type="hidden" name="node" value=(node);
            }
            button type="submit" class=(if warning(cause).is_some() { "grave" } else { "plain" }) {
                (name(cause)) " " (machine.name)
            }
        }
    }
}

fn name(cause: Cause) -> &'static str {
    match cause {
        Cause::Approve => "Approve",
        Cause::Drain => "Drain",
        Cause::Reimage => "Re-image",
        Cause::Quarantine => "Quarantine",
        Cause::Release => "Release",
        Cause::Retire => "Retire",
        Cause::Restore => "Restore",
        // Nobody asks for what happens by itself.
        _ => "",
    }
}

fn warning(cause: Cause) -> Option<&'static str> {
    match cause {
        Cause::Reimage => Some("It restarts at once. The work that it has in hand is lost."),
        Cause::Quarantine => Some("It boots nothing and is not taken in until it is released."),
        Cause::Retire => {
            Some("It boots nothing from then on, and leaves the lists of what needs somebody.")
        }
        _ => None,
    }
}
