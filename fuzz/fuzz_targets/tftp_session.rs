//! A TFTP transfer against a client that says anything at any time.
#![no_main]

use arbitrary::Arbitrary;
use fuzz::target;
use provisioner::tftp::{
    care::{Care, MIN_RATE},
    options::negotiate,
    session::{Action, Event, Session},
};
use std::time::Duration;

#[derive(Arbitrary, Debug)]
struct Transfer {
    file_len: u64,
    blksize: Option<u16>,
    window: Option<u16>,
    timeout: Option<u8>,
    rate: Option<u32>,
    events: Vec<(u16, Says)>,
}

#[derive(Arbitrary, Debug)]
enum Says {
    Ack(u16),
    /// Of what was sent last, so that transfers get on.
    AckLast(u8),
    Error(u16),
    Silence,
    Gone,
}

target!(|transfer: Transfer| {
    let options = [
        ("blksize", transfer.blksize.map(u64::from)),
        ("windowsize", transfer.window.map(u64::from)),
        ("timeout", transfer.timeout.map(u64::from)),
    ];
    let options: Vec<(String, String)> = options
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_string(), value?.to_string())))
        .collect();
    let rate = transfer.rate.map(|rate| rate.max(MIN_RATE));
    let care = Care { rate, ..Care::default() };
    let terms = negotiate(&options, transfer.file_len, 1468, &care);
    // A paced window goes in as many steps as it has blocks.
    let patience = 16 * if rate.is_some() { u32::from(terms.window) + 1 } else { 1 };
    let blocks = transfer.file_len / u64::from(terms.blksize) + 1;
    let mut now = Duration::ZERO;
    let (mut session, mut actions) = Session::open(now, transfer.file_len, &terms);
    let (mut last_sent, mut quiet) = (0, 0u32);
    for (pause, says) in transfer.events {
        for action in &actions {
            match action {
                Action::Data { first, last } => {
                    assert!(1 <= *first && first <= last && *last <= blocks, "{action:?}");
                    assert!(last - first < u64::from(terms.window), "{action:?}");
                    last_sent = *last;
                }
                Action::Oack => assert!(!terms.oack.is_empty()),
                Action::GiveUp => {}
                Action::End(_) => return,
            }
        }
        assert!(actions.len() <= 2);
        // Whoever runs a session tells it of its deadline before anything later.
        now = (now + Duration::from_millis(pause.into())).min(session.deadline());
        let event = match says {
            Says::Ack(block) => Event::Ack(block),
            Says::AckLast(behind) => Event::Ack(last_sent.saturating_sub(behind.into()) as u16),
            Says::Error(code) => Event::Error(code, String::new()),
            Says::Gone => Event::Gone,
            Says::Silence => {
                now = session.deadline();
                Event::Silence
            }
        };
        let silent = matches!(event, Event::Silence);
        // Nothing goes on for ever by itself; what was missing is sent again once more than tries.
        quiet = if silent { quiet + 1 } else { 0 };
        assert!(quiet < patience, "a silent client is not given up");
        (session, actions) = session.step(now, event);
        let ended = actions.iter().any(|action| matches!(action, Action::End(_)));
        assert!(ended || session.deadline() > now || !silent && session.deadline() == now);
    }
});
