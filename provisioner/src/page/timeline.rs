//! A machine's timeline: what happened to it, newest first, of one kind where a URL says so, a page at a
//! time.

use super::text::moment;
use maud::{Markup, html};
use protocol::fleet::TimelineEvent;
use url::form_urlencoded;

/// Events at a time.
const AT_ONCE: usize = 50;

/// Which part of a timeline is shown.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Events of this kind alone.
    pub kind: Option<String>,
    /// Behind so many newer ones. What happens meanwhile is shown twice then, and nothing is left out.
    pub skip: usize,
}

/// The timeline of a machine's page.
pub(super) fn section(mac: &str, events: &[TimelineEvent], part: &Part) -> Markup {
    let mut kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let fits = |event: &&TimelineEvent| part.kind.as_ref().is_none_or(|kind| *kind == event.kind);
    let mut wanted = events.iter().filter(fits).skip(part.skip);
    let shown: Vec<&TimelineEvent> = wanted.by_ref().take(AT_ONCE).collect();
    let more = wanted.next().is_some();
    html! {
        section #timeline {
            h3 { "Timeline" }
            form.search method="get" action={ "/machines/" (mac) "#timeline" } role="search" {
                label { "Events "
                    select name="event" {
                        option value="" { "of any kind" }
                        @for kind in &kinds {
                            option value=(kind) selected[part.kind.as_deref() == Some(kind)] { (kind) }
                        }
                    }
                }
                button type="submit" { "Show events" }
                @if part.skip > 0 || part.kind.is_some() {
                    a href={ "/machines/" (mac) "#timeline" } { "Newest of all" }
                }
            }
            @if shown.is_empty() { p.none { "Nothing of that kind happened." } }
            @else {
                div.wide { table.rows {
                    thead { tr { th { "When (UTC)" } th { "What" } th { "" } } }
                    tbody { @for event in shown { tr class=(event.kind) {
                        td.when { (moment(event.at)) }
                        td { (event.kind) }
                        td.text { (event.text) }
                    } } }
                } }
            }
            @if more { p { a rel="next" href=(older(mac, part)) { "Older events" } } }
        }
    }
}

/// Where the events before those are.
fn older(mac: &str, part: &Part) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(part.kind.as_ref().map(|kind| ("event", kind)));
    query.append_pair("skip", &part.skip.saturating_add(AT_ONCE).to_string());
    format!("/machines/{mac}?{}#timeline", query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_is_shown_a_page_at_a_time_and_by_kind() {
        let event = |n: u64| TimelineEvent {
            mac: "02:00:00:00:00:01".into(),
            at: n,
            kind: if n.is_multiple_of(2) { "dhcp" } else { "boot" }.into(),
            text: format!("number {n}."),
        };
        let events: Vec<_> = (0..120).rev().map(event).collect();
        let page = |part: &Part| section("02:00:00:00:00:01", &events, part).into_string();
        let first = page(&Part::default());
        assert!(first.contains("number 119.") && !first.contains("number 69."), "{first}");
        assert!(first.contains("?skip=50#timeline"), "{first}");
        let boots = page(&Part { kind: Some("boot".into()), skip: 50 });
        assert!(boots.contains("number 19.") && !boots.contains("number 21."), "{boots}");
        assert!(!boots.contains("number 18.") && !boots.contains("Older events"), "{boots}");
        assert!(page(&Part { kind: Some("<b>".into()), skip: 0 }).contains("Nothing of that kind"));
    }
}
