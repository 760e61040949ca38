//! Pieces of a root: what a machine says that it has, what the provisioner says of others, and an
//! outline that somebody sent.
#![no_main]

use fuzz::chain::WORLD;
use fuzz::target;
use pieces::{
    Held, Layout, Outline,
    schedule::{Action, Event, Schedule, Source},
};
use protocol::{
    Digest, Signed,
    pieces::{PiecesAsk, Subnet, Swarm},
};
use std::time::Duration;

/// 24 pieces, the last a short one.
const BYTES: u64 = (23 << 18) + 5;

target!(|bytes: &[u8]| {
    let layout = Layout::of(BYTES).expect("it has pieces");
    if let Ok(asked) = serde_json::from_slice::<PiecesAsk>(bytes)
        && let Some(held) = Held::from_hex(layout.count(), &asked.held)
    {
        assert_eq!(Held::from_hex(layout.count(), &held.hex()), Some(held));
    }
    if let Ok(swarm) = serde_json::from_slice::<Signed<Swarm>>(bytes) {
        let _ = swarm.verify(&WORLD.chain);
        told(swarm.body, &layout);
    } else if let Ok(swarm) = serde_json::from_slice::<Swarm>(bytes) {
        told(swarm, &layout);
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(subnet) = text.parse::<Subnet>()
    {
        assert_eq!(subnet.to_string().parse(), Ok(subnet));
    }
    // An outline of its own digest is taken, and of no other.
    let outline = Outline::check(Digest([0; 32]), BYTES, bytes);
    if let Err(pieces::outline::OutlineError::Digest { found, .. }) = outline {
        assert!(Outline::check(found, BYTES, bytes).is_ok());
    }
});

/// Whatever the provisioner says, a machine asks for what there is, and once at a time.
fn told(swarm: Swarm, layout: &Layout) {
    let mut schedule = Schedule::new(Duration::ZERO, layout.count(), 1);
    let givers = swarm.givers.iter().take(64);
    let givers = givers.map(|giver| (giver.key, Held::read(layout.count(), &giver.held))).collect();
    let granted = swarm.granted.iter().take(64).map(|run| run.first).collect();
    let again = Duration::from_millis(swarm.again_ms.into());
    let told = Event::Told { givers, granted, again };
    for action in schedule.step(Duration::from_secs(1), told) {
        if let Action::Fetch { from, first, count } = action {
            assert!(count > 0 && first + count <= layout.count());
            assert!(count == 1 || matches!(from, Source::Origin(_)));
        }
    }
    assert!(schedule.wake().is_some());
}
