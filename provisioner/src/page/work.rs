//! What a machine earns by, and what its sensors say.

use super::text::{ago, degrees, watts};
use maud::{Markup, html};
use protocol::{
    earnings::{MachineWork, WorkReceipt},
    fleet::Read,
};

/// Power and temperatures; none where it has no sensors.
pub(super) fn sensors(read: Option<&Read>, now: u64) -> Markup {
    let fact = |name: &str, value: String, more: Markup| {
        html! { div.fact { span.quiet { (name) } strong { (value) } span.quiet { (more) } } }
    };
    html! {
        section #sensors { @if let Some(Read { at, said }) = read {
            div.facts.small {
                @if let Some(power) = said.milliwatts {
                    (fact("Power", watts(power), html! { "by its sensors" }))
                }
                @if let Some(heat) = said.cpu_millidegrees {
                    (fact("Processor", degrees(heat), html! { "its hottest sensor" }))
                }
                @for card in &said.cards {
                    (fact(
                        &card.name,
                        card.millidegrees.map_or("-".into(), degrees),
                        html! {
                            @if let Some(power) = card.milliwatts { (watts(power)) ", " }
                            code { (card.address) }
                        },
                    ))
                }
            }
            p.quiet { "Measured " (ago(now, *at)) "." }
        } }
    }
}

/// Receipts, as the ledger told of them.
pub(super) fn section(work: &MachineWork) -> Markup {
    html! {
        section #work {
            h3 { "Receipts and earnings" }
            @match (&work.ledger, work.node) {
                (None, _) => p.none {
                    "Not known: this provisioner asks no ledger. " code { "--ledger URL" } " names one."
                },
                (_, None) => p.none { "None: it has no node key yet. It gets one when it is taken in." },
                (Some(ledger), Some(_)) => {
                    @if let Some(error) = &ledger.error {
                        p.problem role="alert" {
                            "The ledger " code { (ledger.url) } " does not answer (" (error) "); what it said last:"
                        }
                    }
                    @match &work.standing {
                        None => p.none { "The ledger has not told of this node: it is not registered there, or the ledger was not asked yet." },
                        Some(standing) => {
                            div.facts.small {
                                div.fact { span.quiet { "Receipts" } strong { (standing.receipts) }
                                    span.quiet { "since block " (standing.height) } }
                                div.fact { span.quiet { "Earned" } strong { (standing.confirmed) }
                                    span.quiet { "receipts confirmed" } }
                                div.fact { span.quiet { "Pay pending" } strong { (standing.waiting()) }
                                    span.quiet { "receipts not confirmed yet" } }
                            }
                            p.quiet { "Pay is counted in receipts, as this ledger keeps no accounts yet. What it says is not proven here: "
                                code { "alia receipts" } " proves it." }
                            (receipts(&work.receipts))
                        },
                    }
                },
            }
        }
    }
}

fn receipts(receipts: &[WorkReceipt]) -> Markup {
    html! {
        @if !receipts.is_empty() {
            div.wide { table.rows {
                thead { tr {
                    th { "Receipt" } th { "Job" } th.number { "Epoch" } th.number { "Step" } th { "Part" }
                    th.number { "Block" } th.number { "Confirmed in" }
                } }
                tbody { @for receipt in receipts { tr {
                    td { code title=(receipt.receipt) { (receipt.receipt.0.short()) } }
                    td { a href={ "/jobs/" (receipt.job) } title=(receipt.job) { code { (receipt.job.0.short()) } } }
                    td.number data-of="epoch" { (receipt.epoch.saturating_add(1)) }
                    td.number data-of="step" { (receipt.step.saturating_add(1)) }
                    td { (receipt.part) }
                    td.number data-of="in block" { (receipt.height) }
                    td.number data-of="confirmed in" { (receipt.confirmed.map_or("-".into(), |height| height.to_string())) }
                } } }
            } }
        }
    }
}
