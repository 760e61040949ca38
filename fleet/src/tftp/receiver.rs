//! One transfer, seen by the client: `step(event) -> actions`.

use super::Wanted;

/// How often a silence is met by sending again (EDK2's `MTFTP4_DEFAULT_RETRY`).
const MAX_TRIES: u32 = 5;
/// The error by which EDK2 ends a transfer that was only to ask the size (RFC 2347).
const OPTIONS_REFUSED: u8 = 8;

/// What comes.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A packet of the server's.
    Packet(&'a [u8]),
    /// Nothing, for too long.
    Silence,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Send this.
    Send(Vec<u8>),
    /// The next bytes of the file.
    Keep(&'a [u8]),
    /// All of it is there.
    Done,
    /// Nothing comes of it.
    Failed(String),
}

/// A transfer under way.
#[derive(Clone, Debug)]
pub struct Receiver {
    wanted: Wanted,
    blksize: usize,
    window: u16,
    /// The number of the next block, counted from 1.
    next: u64,
    since_ack: u16,
    last_sent: Vec<u8>,
    tries: u32,
    resent: u32,
    size: Option<u64>,
    /// A gap was told of already.
    gap_told: bool,
    over: bool,
}

impl Receiver {
    /// Asks for a file; gives the request too.
    pub fn ask(name: &str, wanted: Wanted) -> (Self, Vec<u8>) {
        let mut request = format!("\0\x01{name}\0octet\0tsize\x000\0");
        request += &format!("blksize\0{}\0", wanted.blksize);
        if wanted.windowsize > 1 {
            request += &format!("windowsize\0{}\0", wanted.windowsize);
        }
        let receiver = Self {
            wanted,
            blksize: 512,
            window: 1,
            next: 1,
            since_ack: 0,
            last_sent: request.clone().into_bytes(),
            tries: 0,
            resent: 0,
            size: None,
            gap_told: false,
            over: false,
        };
        (receiver, request.into_bytes())
    }

    /// The file's size, once the server told it.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Packets sent more than once, and gaps told of.
    pub fn resent(&self) -> u32 {
        self.resent
    }

    /// Whether the server has answered.
    pub fn is_under_way(&self) -> bool {
        self.next > 1 || self.size.is_some()
    }

    /// Goes on.
    pub fn step<'a>(&mut self, event: Event<'a>) -> Vec<Action<'a>> {
        if self.over {
            return Vec::new();
        }
        match event {
            Event::Silence => self.silence(),
            Event::Packet([0, 3, high, low, data @ ..]) => {
                self.data(u16::from_be_bytes([*high, *low]), data)
            }
            Event::Packet([0, 5, _, code, text @ ..]) => {
                let text = String::from_utf8_lossy(text);
                let text = text.trim_end_matches('\0').chars().take(120).collect::<String>();
                self.failed(format!("error {code} of the server: {text}"))
            }
            Event::Packet([0, 6, options @ ..]) => self.oack(options),
            Event::Packet(_) => Vec::new(),
        }
    }

    fn oack<'a>(&mut self, options: &[u8]) -> Vec<Action<'a>> {
        if self.next > 1 {
            return Vec::new();
        }
        let mut words = options.split(|&byte| byte == 0).map(String::from_utf8_lossy);
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            let number: Option<u64> = value.parse().ok();
            match (name.to_ascii_lowercase().as_str(), number) {
                ("", _) => {}
                ("tsize", Some(size)) => self.size = Some(size),
                ("blksize", Some(size)) if (8..=u64::from(self.wanted.blksize)).contains(&size) => {
                    self.blksize = size as usize;
                }
                ("windowsize", Some(size))
                    if (1..=u64::from(self.wanted.windowsize)).contains(&size) =>
                {
                    self.window = size as u16;
                }
                (name, _) => {
                    let reason = format!("the server accepts {name:.20} as nobody asked");
                    return self.failed(reason);
                }
            }
        }
        if self.wanted.size_only {
            self.over = true;
            let error = [&[0, 5, 0, OPTIONS_REFUSED][..], b"size known\0"].concat();
            return vec![Action::Send(error), Action::Done];
        }
        vec![self.ack()]
    }

    fn data<'a>(&mut self, block: u16, data: &'a [u8]) -> Vec<Action<'a>> {
        if self.wanted.size_only {
            // A server without options: the whole file is not wanted.
            self.over = true;
            return vec![Action::Send(vec![0, 5, 0, 0, 0]), Action::Done];
        }
        let ahead = block.wrapping_sub(self.next as u16);
        if ahead != 0 || data.len() > self.blksize {
            return self.out_of_order(ahead);
        }
        self.next += 1;
        self.since_ack += 1;
        self.tries = 0;
        self.gap_told = false;
        let is_last = data.len() < self.blksize;
        let mut actions = vec![Action::Keep(data)];
        if is_last || self.since_ack >= self.window {
            actions.push(self.ack());
        }
        if is_last {
            self.over = true;
            actions.push(Action::Done);
        }
        actions
    }

    /// A block was lost on the way: the last one before it is acknowledged, once (RFC 7440 section
    /// 4), and the server goes back. A block that came before is the server's second try.
    fn out_of_order<'a>(&mut self, ahead: u16) -> Vec<Action<'a>> {
        let is_gap = ahead > 0 && ahead < self.window.max(2);
        let is_second = ahead == u16::MAX && self.since_ack == 0;
        if (is_gap && !self.gap_told) || is_second {
            self.gap_told = true;
            self.resent += 1;
            return vec![self.ack()];
        }
        Vec::new()
    }

    fn silence<'a>(&mut self) -> Vec<Action<'a>> {
        self.tries += 1;
        if self.tries > MAX_TRIES {
            let what = if self.is_under_way() { "it stopped" } else { "no answer" };
            return self.failed(what.into());
        }
        self.resent += 1;
        self.gap_told = false;
        // What came of a window after its last acknowledgement counts.
        match self.is_under_way() {
            true => vec![self.ack()],
            false => vec![Action::Send(self.last_sent.clone())],
        }
    }

    fn ack<'a>(&mut self) -> Action<'a> {
        self.since_ack = 0;
        let [high, low] = ((self.next - 1) as u16).to_be_bytes();
        self.last_sent = vec![0, 4, high, low];
        Action::Send(self.last_sent.clone())
    }

    fn failed<'a>(&mut self, reason: String) -> Vec<Action<'a>> {
        self.over = true;
        vec![Action::Failed(reason)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: Wanted = Wanted { blksize: 8, windowsize: 4, size_only: false };

    fn block(number: u16, content: &[u8]) -> Vec<u8> {
        let [high, low] = number.to_be_bytes();
        [&[0, 3, high, low][..], content].concat()
    }

    fn started(wanted: Wanted) -> Receiver {
        let (mut receiver, _) = Receiver::ask("f", wanted);
        let oack = b"\0\x06tsize\x0020\0blksize\x008\0windowsize\x004\0";
        assert_eq!(receiver.step(Event::Packet(oack)), [Action::Send(vec![0, 4, 0, 0])]);
        receiver
    }

    fn sends(actions: &[Action<'_>]) -> Vec<Vec<u8>> {
        let sent = actions.iter().filter_map(|action| match action {
            Action::Send(bytes) => Some(bytes.clone()),
            _ => None,
        });
        sent.collect()
    }

    #[test]
    fn edk2_asks_size_block_and_window() {
        let (_, request) = Receiver::ask("a/b.efi", Wanted::EDK2);
        let wanted = b"\0\x01a/b.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0";
        assert_eq!(request, wanted);
    }

    #[test]
    fn asking_the_size_ends_with_error_8() {
        let (mut receiver, _) = Receiver::ask("f", Wanted { size_only: true, ..SMALL });
        let actions = receiver.step(Event::Packet(b"\0\x06tsize\x0020\0"));
        assert_eq!(&sends(&actions)[0][..4], &[0, 5, 0, 8]);
        assert_eq!((actions.last(), receiver.size()), (Some(&Action::Done), Some(20)));
    }

    #[test]
    fn a_window_is_acknowledged_whole_and_the_short_block_ends_it() {
        let mut receiver = started(SMALL);
        for number in 1..=3 {
            assert!(sends(&receiver.step(Event::Packet(&block(number, &[7; 8])))).is_empty());
        }
        let four = block(4, &[7; 8]);
        assert_eq!(sends(&receiver.step(Event::Packet(&four))), [[0, 4, 0, 4]]);
        let five = block(5, b"ab");
        let actions = receiver.step(Event::Packet(&five));
        assert_eq!(actions[0], Action::Keep(b"ab"));
        assert_eq!(
            (sends(&actions), actions.last()),
            (vec![vec![0, 4, 0, 5]], Some(&Action::Done))
        );
    }

    #[test]
    fn a_lost_block_is_told_of_once_and_what_came_before_is_acknowledged() {
        let mut receiver = started(SMALL);
        receiver.step(Event::Packet(&block(1, &[7; 8])));
        assert_eq!(sends(&receiver.step(Event::Packet(&block(3, &[7; 8])))), [[0, 4, 0, 1]]);
        assert!(receiver.step(Event::Packet(&block(4, &[7; 8]))).is_empty());
        assert_eq!(receiver.resent(), 1);
        assert_eq!(receiver.step(Event::Packet(&block(2, &[7; 8]))).len(), 1, "goes on from there");
    }

    #[test]
    fn silence_is_met_by_the_last_packet_and_then_given_up() {
        let (mut receiver, request) = Receiver::ask("f", SMALL);
        for _ in 0..MAX_TRIES {
            assert_eq!(sends(&receiver.step(Event::Silence)), std::slice::from_ref(&request));
        }
        assert_eq!(receiver.step(Event::Silence), [Action::Failed("no answer".into())]);
        let mut receiver = started(SMALL);
        receiver.step(Event::Packet(&block(1, &[7; 8])));
        assert_eq!(sends(&receiver.step(Event::Silence)), [[0, 4, 0, 1]]);
    }

    #[test]
    fn a_servers_error_is_said_with_its_words() {
        let (mut receiver, _) = Receiver::ask("f", SMALL);
        let actions = receiver.step(Event::Packet(b"\0\x05\0\x01no such file\0"));
        assert_eq!(actions, [Action::Failed("error 1 of the server: no such file".into())]);
    }

    #[test]
    fn block_numbers_roll_over() {
        let mut receiver = started(SMALL);
        let mut kept = 0;
        for number in 1..=70_000u32 {
            let packet = block(number as u16, &[7; 8]);
            kept += receiver
                .step(Event::Packet(&packet))
                .iter()
                .filter(|action| matches!(action, Action::Keep(_)))
                .count();
        }
        assert_eq!(kept, 70_000);
    }

    proptest! {
        #[test]
        fn no_packet_panics(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let (mut receiver, _) = Receiver::ask("f", SMALL);
            for packet in &packets {
                receiver.step(Event::Packet(packet));
                receiver.step(Event::Packet(&[&[0, 6][..], packet].concat()));
            }
        }

        #[test]
        fn whatever_is_lost_the_file_is_whole(
            content in prop::collection::vec(any::<u8>(), 0..200),
            lost in prop::collection::vec(any::<bool>(), 60),
        ) {
            let mut receiver = started(SMALL);
            let blocks: Vec<&[u8]> = content.chunks(8).collect();
            let count = content.len() / 8 + 1;
            let (mut got, mut from, mut lost) = (Vec::new(), 1, lost.into_iter());
            let mut over = false;
            for _ in 0..400 {
                if over { break; }
                let mut acked = None;
                for number in from..(from + 4).min(count + 1) {
                    if lost.next().unwrap_or(false) { continue; }
                    let packet = block(number as u16, blocks.get(number - 1).copied().unwrap_or(&[]));
                    for action in receiver.step(Event::Packet(&packet)) {
                        match action {
                            Action::Keep(data) => got.extend_from_slice(data),
                            Action::Send(ack) => acked = Some(usize::from(ack[3])),
                            Action::Done => over = true,
                            Action::Failed(why) => prop_assert!(false, "{}", why),
                        }
                    }
                }
                if acked.is_none() && !over {
                    receiver.tries = 0;
                    for action in receiver.step(Event::Silence) {
                        if let Action::Send(ack) = action { acked = Some(usize::from(ack[3])); }
                    }
                }
                from = acked.map_or(from, |acked| acked + 1);
            }
            prop_assert!(over);
            prop_assert_eq!(got, content);
        }
    }
}
