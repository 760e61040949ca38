//! What a service prints, cut into lines and held to a rate.
#![no_main]

use fuzz::target;
use node_init::lines::{Lines, MAX_LINE, MAX_RATE};
use std::time::Duration;

target!(|pieces: Vec<(u16, Vec<u8>)>| {
    let mut lines = Lines::default();
    let mut now = Duration::from_secs(1);
    let mut begun = now;
    let mut count = 0;
    for (pause, piece) in pieces {
        now += Duration::from_millis(pause.into());
        let shown = lines.push(now, &piece);
        for line in &shown {
            assert!(line.len() <= 3 * MAX_LINE && !line.contains('\n'));
        }
        if now - begun >= Duration::from_secs(1) {
            (begun, count) = (now, 0);
        }
        count += shown.len();
        // A second may begin in the middle of one that is counted here.
        assert!(count <= 2 * MAX_RATE as usize + 2);
    }
    lines.end(now);
});
