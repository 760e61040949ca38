//! What listens, under watch.

use super::{Alive, Tables};
use crate::tls::start::COSTLY;
use listener::{Handshakes, Limits, Load};

/// What listens, as it is, and shown as long as it does.
pub fn while_it_listens<F: Future>(
    alive: &Alive,
    name: &'static str,
    served: F,
) -> impl Future<Output = F::Output> + use<F> {
    let listening = alive.begins(name);
    async move {
        let _listening = listening;
        served.await
    }
}

/// The load of a listener with the usual limits, shown under that name; with handshakes where it
/// speaks TLS.
pub fn load(tables: &Tables, name: &'static str, secure: bool) -> Load {
    let load = Load::default();
    let shown = load.clone();
    let most = Limits::USUAL.connections as u64;
    tables.show(name, most, move || shown.connections() as u64);
    let shown = load.clone();
    tables.turns_away(name, move || shown.turned_away() as u64);
    if secure {
        let shown = load.clone();
        let most = Handshakes::USUAL.at_once as u64;
        tables.show("tls-handshakes", most, move || shown.handshakes() as u64);
        let shown = load.clone();
        tables.show("tls-handshakes-without-curves", COSTLY as u64, move || shown.others() as u64);
    }
    load
}
