//! What a machine earns by, and what its sensors say.

use super::text::{ago, degrees, watts};
use maud::{Markup, html};
use protocol::{
    earnings::{MachineWork, WorkReceipt},
    fleet::Read,
};

/// Power and temperatures, as terms of the machine's list; none where it has no sensors.
pub(super) fn sensors(read: Option<&Read>, now: u64) -> Markup {
    html! {
        @if let Some(Read { at, said }) = read {
            @if let Some(power) = said.milliwatts {
                dt { "Power" } dd { (watts(power)) " " span.quiet { "by its sensors, " (ago(now, *at)) } }
            }
            @if let Some(heat) = said.cpu_millidegrees { dt { "Processor" } dd { (degrees(heat)) } }
            @for card in &said.cards {
                dt { (card.name) } dd {
                    code { (card.address) }
                    @if let Some(heat) = card.millidegrees { ", " (degrees(heat)) }
                    @if let Some(power) = card.milliwatts { ", " (watts(power)) }
                }
            }
        }
    }
}

/// Receipts, as the ledger told of them.
pub(super) fn section(work: &MachineWork) -> Markup {
    html! {
        section #work {
            h3 { "Receipts and earnings" }
            @match (&work.ledger, work.node) {
                (None, _) => p.quiet {
                    "No ledger is configured here (" code { "--ledger" } "), so that nothing is known of them."
                },
                (_, None) => p.quiet { "It has no node key yet, and so no receipts." },
                (Some(ledger), Some(_)) => {
                    @if let Some(error) = &ledger.error {
                        p.problem role="alert" {
                            "The ledger " code { (ledger.url) } " does not answer (" (error) "); what it said last:"
                        }
                    }
                    @match &work.standing {
                        None => p.quiet { "The ledger has not told of this node: it is not registered, or was not asked yet." },
                        Some(standing) => {
                            div.facts.small {
                                div.fact { span.quiet { "Receipts" } strong { (standing.receipts) }
                                    span.quiet { "since block " (standing.height) } }
                                div.fact { span.quiet { "Earned by" } strong { (standing.confirmed) }
                                    span.quiet { "confirmed" } }
                                div.fact { span.quiet { "Pending" } strong { (standing.waiting()) }
                                    span.quiet { "not confirmed yet" } }
                            }
                            p.quiet { "Pay is counted in receipts: this ledger keeps no accounts yet." }
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
            div.wide { table {
                thead { tr {
                    th { "Receipt" } th { "Job" } th.number { "Epoch" } th.number { "Step" } th { "Part" }
                    th.number { "Block" } th.number { "Confirmed in" }
                } }
                tbody { @for receipt in receipts { tr {
                    td { code title=(receipt.receipt) { (receipt.receipt.0.short()) } }
                    td { code title=(receipt.job) { (receipt.job.0.short()) } }
                    td.number { (receipt.epoch.saturating_add(1)) }
                    td.number { (receipt.step.saturating_add(1)) }
                    td { (receipt.part) }
                    td.number { (receipt.height) }
                    td.number { (receipt.confirmed.map_or("-".into(), |height| height.to_string())) }
                } } }
            } }
        }
    }
}
