//! A run of pieces from the provisioner, each verified as it is whole.

use super::{Edge, Said};
use crate::{
    outline::Outline,
    schedule::{End, Event, Source},
};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Parts that wait to be taken.
const PARTS: usize = 8;

/// What is fetched.
pub(super) struct Asked {
    pub(super) from: Source,
    pub(super) turn: u64,
    pub(super) first: u32,
    pub(super) count: u32,
}

pub(super) async fn fetch<E: Edge>(
    edge: Arc<E>,
    outline: Arc<Outline>,
    asked: Asked,
    says: mpsc::Sender<Said>,
) {
    let Asked { from, turn, first, count } = asked;
    let asked = &asked;
    let layout = outline.layout();
    let last = first + count.saturating_sub(1);
    let range = layout.range(first).start..layout.range(last).end;
    let (parts, taken) = mpsc::channel(PARTS);
    let (fetched, whole) =
        tokio::join!(edge.origin(range, parts), take(&outline, asked, taken, &says));
    let how = match (whole, fetched) {
        (End::Whole, Err(_)) => End::Failed,
        (how, _) => how,
    };
    let _ = says.send(Said::Of { from, turn, event: Event::Ended { from, how } }).await;
}

/// Puts parts together to pieces.
async fn take(
    outline: &Outline,
    asked: &Asked,
    mut parts: mpsc::Receiver<Bytes>,
    says: &mpsc::Sender<Said>,
) -> End {
    let mut piece = asked.first;
    let mut content: Vec<u8> = Vec::new();
    while let Some(part) = parts.recv().await {
        let mut part = part.as_ref();
        while !part.is_empty() {
            if piece >= asked.first + asked.count {
                return End::Lied;
            }
            let length = outline.layout().length(piece) as usize;
            let (now, later) = part.split_at(part.len().min(length - content.len()));
            content.extend_from_slice(now);
            part = later;
            if content.len() < length {
                continue;
            }
            if !outline.fits(piece, &content) {
                return End::Lied;
            }
            let content = std::mem::take(&mut content);
            let said = Said::Piece { from: asked.from, turn: asked.turn, piece, content };
            if says.send(said).await.is_err() {
                return End::Failed;
            }
            piece += 1;
        }
    }
    if piece == asked.first + asked.count { End::Whole } else { End::Failed }
}
