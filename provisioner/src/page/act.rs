//! What an operator may do to a machine: a form each, which works without a script. What needs a word
//! before it is meant asks once more, by a part that opens.

use crate::life::{self, Cause};
use maud::{Markup, html};
use protocol::{
    PublicKey,
    fleet::{MachineState, MachineStatus},
};

/// What the form of a revocation asks for: no cause in a machine's life, but the end of its key.
pub const REVOKE: &str = "revoke";

/// The actions of a machine in its state; for who is no operator, where to sign in. `key` is the node
/// key that can be revoked.
pub(super) fn actions(
    machine: &MachineStatus,
    key: Option<&PublicKey>,
    operator: Option<&str>,
) -> Markup {
    if operator.is_none() {
        let to = format!("/sign-in?to=/machines/{}", machine.mac);
        return html! { p #actions.quiet { a href=(to) { "Sign in" } " as an operator to act on it." } };
    }
    let causes = life::commands(machine.life.state).filter(|cause| {
        // There is nothing to approve where no key waits.
        *cause != Cause::Approve || machine.pending.is_some()
    });
    html! {
        div #actions.actions role="group" aria-label="Actions" {
            @for cause in causes {
                @match warning(cause) {
                    None => { (form(machine, cause, "machine")) },
                    Some(warning) => {
                        details id={ "ask-" (cause.as_str()) } {
                            summary { (name(cause)) "…" }
                            p { (warning) }
                            (form(machine, cause, "machine"))
                        }
                    },
                }
            }
            @if let Some(key) = key {
                details #ask-revoke {
                    summary { "Revoke key…" }
                    p {
                        "Node key " code { (key.short()) } " is worth nothing from then on: the machine is \
                         not taken in with it, and its certificates end. Only "
                        code { "provisioner approve" } " on this provisioner's host undoes it."
                    }
                    form id={ "do-revoke-" (machine.mac) } method="post" action={ "/machines/" (machine.mac) "/do" } {
                        input type="hidden" name="do" value=(REVOKE);
                        input type="hidden" name="node" value=(key);
                        button.grave type="submit" { "Revoke the key of " (machine.name) }
                    }
                }
            }
        }
    }
}

/// The form that asks for one thing; `from` says which page shows it.
pub(super) fn form(machine: &MachineStatus, cause: Cause, from: &str) -> Markup {
    let kind = match cause {
        Cause::Approve | Cause::Release | Cause::Restore => "first",
        cause if warning(cause).is_some() => "grave",
        _ => "plain",
    };
    html! {
        form id={ "do-" (cause.as_str()) "-" (machine.mac) } method="post" action={ "/machines/" (machine.mac) "/do" } {
            input type="hidden" name="do" value=(cause.as_str());
            input type="hidden" name="state" value=(machine.life.state.as_str());
            input type="hidden" name="since" value=(machine.life.since);
            input type="hidden" name="from" value=(from);
            @if let Some(node) = machine.pending.filter(|_| cause == Cause::Approve) {
                input type="hidden" name="node" value=(node);
            }
            button type="submit" class=(kind) {
                @if (cause, machine.life.state) == (Cause::Release, MachineState::Draining) {
                    "Let " (machine.name) " work again"
                } @else {
                    (name(cause)) " " (machine.name)
                }
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

/// What is said before it is meant.
fn warning(cause: Cause) -> Option<&'static str> {
    Some(match cause {
        Cause::Drain => {
            "Within a minute its node is told to finish its work and to take no more. What is not \
             done in half an hour goes on."
        }
        Cause::Reimage => {
            "Within a minute its node restarts, and the work that it has in hand is lost: drain it \
             first, to have that finished. A node that reaches us no more is restarted by its power \
             button."
        }
        Cause::Quarantine => {
            "Its node finishes its work; it boots nothing and is not taken in until it is released."
        }
        Cause::Retire => {
            "Its node finishes its work; it boots nothing from then on, and leaves the lists of what \
             needs somebody."
        }
        _ => return None,
    })
}
