//! Looks after machines that fetched the whole UKI and fell silent: firmware that refuses a
//! signature may stop at its screen for ever, and asks nobody anything.

use crate::{
    dhcp::decide::UKI_NOT_STARTED,
    machine::Mac,
    metrics::Tables,
    progress::{Mark, UKI},
    script::UKI_FILE,
    store::Store,
    timeline::{Kind, News, Record, Timeline},
};
use protocol::fleet::TimelineEvent;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::broadcast::error::RecvError, task::spawn_blocking, time::sleep};

/// From the whole UKI to a machine's first word: an old server with many disks takes a minute.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often those that are waited for are looked at.
const LOOK: Duration = Duration::from_secs(15);
/// The most machines that are waited for; beyond them the next question alone tells.
const MAX_WAITING: usize = 4_096;

/// Watches until the timeline ends.
pub async fn watch(store: Arc<Store>, timeline: Timeline, tables: &Tables) {
    let mut news = timeline.watch();
    let count = Arc::new(AtomicU64::new(0));
    let shown = count.clone();
    let used = move || shown.load(Ordering::Relaxed);
    tables.show("silent-after-uki", MAX_WAITING as u64, used);
    let mut waiting: BTreeMap<Mac, Instant> = BTreeMap::new();
    loop {
        tokio::select! {
            heard = news.recv() => match heard {
                Ok(News::Timeline(_, event)) => {
                    if let Some(mac) = fetched(&event)
                        && waiting.len() < MAX_WAITING
                    {
                        waiting.insert(mac, Instant::now());
                    }
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            () = sleep(LOOK), if !waiting.is_empty() => {}
        }
        count.store(waiting.len() as u64, Ordering::Relaxed);
        let late: Vec<Mac> = waiting
            .iter()
            .filter(|(_, since)| since.elapsed() >= PATIENCE)
            .map(|(mac, _)| *mac)
            .collect();
        for mac in late {
            waiting.remove(&mac);
            let store = store.clone();
            // A store that fails says so elsewhere.
            let silent = spawn_blocking(move || store.took_uki(mac)).await;
            if matches!(silent, Ok(Ok(true))) {
                let text = format!("no report for {} s: {UKI_NOT_STARTED}", PATIENCE.as_secs());
                let mark = Mark::Failed(UKI, UKI_NOT_STARTED.into());
                timeline.record(Record::new(mac, Kind::Refused, text).marks([mark]));
            }
        }
    }
}

/// Whose transfer of the UKI ended, where an event is one; that it is whole the store knows.
fn fetched(event: &TimelineEvent) -> Option<Mac> {
    let rest = event.text.strip_prefix(UKI_FILE)?;
    rest.contains(" bytes in ").then(|| event.mac.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_ukis_transfer_is_told_from_all_else() {
        let event = |text: &str| TimelineEvent {
            mac: "52:54:00:12:34:56".into(),
            at: 0,
            kind: "tftp".into(),
            text: text.into(),
        };
        let mac = "52:54:00:12:34:56".parse().ok();
        assert_eq!(fetched(&event("aliaos.efi: 20309560 bytes in 8.184 s (blocks)")), mac);
        assert_eq!(fetched(&event("aliaos.efi: transfer begins")), None);
        assert_eq!(fetched(&event("aliaos.efi: asked for the size, 20309560 bytes")), None);
        assert_eq!(fetched(&event("snponly.efi: 100 bytes in 1.0 s")), None);
    }
}
