//! The wall clock after the node was taken in: NTP, held to what is known already.
//!
//! Nobody vouches for an NTP server's answer, so it may move the clock a little and never far: the
//! provisioner's signed time, which the clock was set by, outweighs it ([`FAR`]), and so does the
//! build's. Several servers must agree. SNTP (RFC 5905, by the library rsntp) is enough for
//! expiries and for people who read logs; NTS would bring a second TLS configuration into PID 1 to
//! secure what is bounded by a signature already.

use crate::{kernel::Kernel, stages::clock::date};
use protocol::boot::{MAX_TIME_SERVERS, StageState};
use rsntp::{AsyncSntpClient, Config};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::time::sleep;

/// By more than this, in seconds, and what a quartz may be off, servers do not move the clock from what
/// the provisioner's signed time set it to, in however many rounds.
pub const FAR: f64 = 300.0;
/// How far a quartz may be off: seconds in a second. Few are off by half of it.
const DRIFT: f64 = 200e-6;
/// Servers agree where they are this close to the one in the middle, in seconds.
const AGREE: f64 = 1.0;
/// From this much on, in seconds, the clock is set; below, it is run faster or slower (RFC 5905's
/// step threshold).
const STEP: f64 = 0.128;
/// NTP's.
const PORT: u16 = 123;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(3);
/// Between two rounds: after one that failed, and after one that did not.
const SOON: Duration = Duration::from_secs(64);
const LATER: Duration = Duration::from_secs(1_024);

/// A server's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The server, as it was named.
    pub server: String,
    /// How far its clock is before ours, in seconds.
    pub offset: f64,
}

/// What is done about a round of answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The clock is set, by so many seconds.
    Step(f64),
    /// The clock is run faster or slower until it has made up so many seconds.
    Slew(f64),
    /// Nothing.
    Leave,
}

/// Judges a round: what is done, by which servers, and what is wrong with the others, for people.
///
/// `now` and `floor` are seconds since 1970: the clock's, and the build's. By `moved` seconds servers
/// have moved the clock already, and by `most` they may, either way.
pub fn judge(
    now: f64,
    floor: f64,
    (moved, most): (f64, f64),
    answers: &[Answer],
) -> (Verdict, Vec<String>, Vec<String>) {
    let mut wrong = Vec::new();
    let mut good: Vec<&Answer> = Vec::new();
    for answer in answers {
        let Answer { server, offset } = answer;
        let says = now + offset;
        if !offset.is_finite() {
            wrong.push(format!("{server} gives no time"));
        } else if says < floor {
            wrong.push(format!("{server} says {}, before the image was built", whole(says)));
        } else if (moved + offset).abs() > most {
            wrong.push(format!(
                "{server} says {}, more than {most:.0} s from the provisioner's signed time",
                whole(says)
            ));
        } else {
            good.push(answer);
        }
    }
    good.sort_by(|a, b| a.offset.total_cmp(&b.offset));
    // Of an even number the one nearer to the clock.
    let middle = match good.len() {
        0 => return (Verdict::Leave, Vec::new(), wrong),
        count if count % 2 == 1 => good[count / 2].offset,
        count => {
            let (a, b) = (good[count / 2 - 1].offset, good[count / 2].offset);
            if a.abs() <= b.abs() { a } else { b }
        }
    };
    let (agreed, stray): (Vec<&Answer>, Vec<&Answer>) =
        good.iter().partition(|answer| (answer.offset - middle).abs() <= AGREE);
    wrong.extend(stray.iter().map(|answer| {
        format!("{} is {:.3} s from the others", answer.server, (answer.offset - middle).abs())
    }));
    if agreed.len() * 2 <= good.len() {
        wrong.push("the servers do not agree".to_owned());
        return (Verdict::Leave, Vec::new(), wrong);
    }
    let verdict = if middle.abs() >= STEP { Verdict::Step(middle) } else { Verdict::Slew(middle) };
    (verdict, agreed.iter().map(|answer| answer.server.clone()).collect(), wrong)
}

fn whole(seconds: f64) -> String {
    // A float that is too large becomes the largest number.
    date(if seconds.is_sign_negative() { 0 } else { seconds as u64 })
}

/// Those to ask: the settings', or those that DHCP names.
pub fn servers(settings: &[String], dhcp: &[Ipv4Addr]) -> Vec<String> {
    let mut all: Vec<String> = match settings {
        [] => dhcp.iter().map(Ipv4Addr::to_string).collect(),
        given => given.to_vec(),
    };
    all.truncate(MAX_TIME_SERVERS);
    all
}

/// Keeps the clock by these servers for as long as the machine runs, from when the provisioner's
/// signed time has set it; `report` hears of changes.
pub async fn keep(
    kernel: Arc<dyn Kernel>,
    servers: Vec<String>,
    floor: u64,
    report: impl Fn(StageState, String),
) {
    let mut told = String::new();
    let (mut moved, begun) = (0.0, kernel.since_start());
    loop {
        let (answers, silent) = ask_all(&servers).await;
        let now = kernel.unix_time() as f64;
        let since = kernel.since_start().saturating_sub(begun).as_secs_f64();
        let most = FAR + DRIFT * since;
        let (verdict, by, mut wrong) = judge(now, floor as f64, (moved, most), &answers);
        wrong.extend(silent);
        let done = match verdict {
            Verdict::Step(by) => kernel.step_clock(nanoseconds(by)),
            Verdict::Slew(by) => kernel.slew_clock(nanoseconds(by)),
            Verdict::Leave => Ok(()),
        };
        if let (Verdict::Step(by) | Verdict::Slew(by), Ok(())) = (&verdict, &done) {
            moved += by;
        }
        let by = by.join(", ");
        let what = match (&verdict, &done) {
            (_, Err(error)) => format!("the clock cannot be set by NTP: {error}"),
            (Verdict::Step(offset), _) => {
                let now = date(kernel.unix_time());
                format!("{now}, by NTP of {by}; it was {offset:+.3} s off")
            }
            (Verdict::Slew(_), _) => format!("the clock keeps to NTP of {by}"),
            (Verdict::Leave, _) => "no NTP server's time is taken".to_owned(),
        };
        let good = done.is_ok() && verdict != Verdict::Leave;
        let text = if wrong.is_empty() { what } else { format!("{what}; {}", wrong.join("; ")) };
        // A round that says the same as the last one is not told; one that set the clock is.
        if text != told {
            report(if good { StageState::Done } else { StageState::Retrying }, text.clone());
            told = text;
        }
        sleep(if good { LATER } else { SOON }).await;
    }
}

fn nanoseconds(seconds: f64) -> i64 {
    (seconds * 1e9) as i64
}

/// Asks each; gives the answers, and what is to be said of those that gave none.
async fn ask_all(servers: &[String]) -> (Vec<Answer>, Vec<String>) {
    let asked = servers.iter().map(|server| async move { (server, ask(server).await) });
    let (mut answers, mut silent) = (Vec::new(), Vec::new());
    for (server, result) in futures::future::join_all(asked).await {
        match result {
            Ok(offset) => answers.push(Answer { server: server.clone(), offset }),
            Err(reason) => silent.push(format!("{server} gives no time ({reason})")),
        }
    }
    (answers, silent)
}

/// How far a server's clock is before ours, in seconds.
async fn ask(server: &str) -> Result<f64, String> {
    let plain = server.parse().map(|address: IpAddr| SocketAddr::new(address, PORT));
    let address = plain.or_else(|_| server.parse::<SocketAddr>());
    let any: IpAddr = match address {
        Ok(SocketAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    };
    let config = Config::default().bind_address(SocketAddr::new(any, 0)).timeout(ANSWER);
    let client = AsyncSntpClient::with_config(config);
    let result = match address {
        Ok(address) => client.synchronize(address).await,
        Err(_) => client.synchronize(server).await,
    };
    result.map(|answer| answer.clock_offset().as_secs_f64()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use tokio::{net::UdpSocket, time::timeout};

    /// 2026-03-01T00:00:00Z, and an image built a day before.
    const NOW: f64 = 1_772_323_200.0;
    const FLOOR: f64 = NOW - 86_400.0;

    fn judged(offsets: &[f64]) -> (Verdict, String, String) {
        let answer =
            |(n, offset): (usize, &f64)| Answer { server: format!("s{n}"), offset: *offset };
        let answers: Vec<Answer> = offsets.iter().enumerate().map(answer).collect();
        let (verdict, by, wrong) = judge(NOW, FLOOR, (0.0, FAR), &answers);
        (verdict, by.join(" "), wrong.join("; "))
    }

    #[test]
    fn a_small_difference_is_made_up_and_a_larger_one_is_set() {
        assert_eq!(judged(&[0.05]), (Verdict::Slew(0.05), "s0".into(), "".into()));
        assert_eq!(judged(&[-2.0]).0, Verdict::Step(-2.0));
        assert_eq!(judged(&[]).0, Verdict::Leave);
    }

    #[test]
    fn a_server_at_1970_or_2099_does_not_move_the_clock() {
        let (verdict, _, wrong) = judged(&[-NOW]);
        assert_eq!(verdict, Verdict::Leave);
        assert_eq!(wrong, "s0 says 1970-01-01T00:00:00Z, before the image was built");
        let (verdict, _, wrong) = judged(&[4_076_352_000.0 - NOW]);
        assert_eq!(verdict, Verdict::Leave);
        assert!(wrong.contains("2099-03-05") && wrong.contains("signed time"), "{wrong}");
        assert_eq!(judged(&[f64::NAN]).0, Verdict::Leave);
    }

    #[test]
    fn a_server_that_walks_off_in_small_steps_gets_no_further_than_in_one() {
        let walk = |moved: f64, step: f64| {
            let answers = [Answer { server: "s".into(), offset: step }];
            judge(NOW + moved, FLOOR, (moved, FAR), &answers).0
        };
        assert_eq!(walk(0.0, 200.0), Verdict::Step(200.0));
        assert_eq!(walk(200.0, 200.0), Verdict::Leave);
        assert_eq!(walk(299.95, 0.1), Verdict::Leave);
        assert_eq!(walk(299.95, -0.1), Verdict::Slew(-0.1));
    }

    #[test]
    fn one_liar_among_three_is_outvoted_and_named() {
        let (verdict, by, wrong) = judged(&[0.2, 200.0, 0.3]);
        assert_eq!((verdict, by.as_str()), (Verdict::Step(0.3), "s0 s2"));
        assert_eq!(wrong, "s1 is 199.700 s from the others");
        let (verdict, by, _) = judged(&[0.01, -NOW, 0.02, 1e12]);
        assert_eq!((verdict, by.as_str()), (Verdict::Slew(0.01), "s0 s2"));
    }

    #[test]
    fn two_servers_that_differ_move_nothing() {
        let (verdict, _, wrong) = judged(&[0.0, 200.0]);
        assert_eq!(verdict, Verdict::Leave);
        assert!(wrong.contains("do not agree"), "{wrong}");
    }

    #[test]
    fn the_settings_servers_come_before_those_of_dhcp() {
        let dhcp = [Ipv4Addr::new(10, 1, 2, 7)];
        assert_eq!(servers(&[], &dhcp), ["10.1.2.7"]);
        assert_eq!(servers(&["ntp.lan".into()], &dhcp), ["ntp.lan"]);
        assert_eq!(servers(&vec!["x".into(); 99], &dhcp).len(), MAX_TIME_SERVERS);
    }

    /// A server whose clock is `ahead` seconds before ours, for one question.
    async fn server(ahead: f64) -> String {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let mut packet = [0; 48];
            let (_, from) = socket.recv_from(&mut packet).await.unwrap();
            let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64() + ahead;
            let ntp = now + 2_208_988_800.0;
            let stamp =
                (((ntp as u64) << 32) | ((ntp.fract() * 4_294_967_296.0) as u64)).to_be_bytes();
            // Server, version 4, stratum 2; the client's time comes back as the originate one.
            let client: [u8; 8] = packet[40..48].try_into().unwrap();
            packet = [0; 48];
            (packet[0], packet[1]) = (0x24, 2);
            packet[24..32].copy_from_slice(&client);
            for at in [16, 32, 40] {
                packet[at..at + 8].copy_from_slice(&stamp);
            }
            socket.send_to(&packet, from).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn a_round_sets_the_clock_by_those_that_agree() {
        let kernel = Arc::new(Fake::new(&[]));
        kernel.world().clock = NOW as u64;
        let servers = vec![server(5.0).await, server(5.0).await, server(-250.0).await];
        let told = RefCell::new(Vec::new());
        let report = |state, text| told.borrow_mut().push((state, text));
        let kept = keep(kernel.clone(), servers.clone(), FLOOR as u64, report);
        assert!(timeout(Duration::from_secs(2), kept).await.is_err());
        let told = told.into_inner();
        assert_eq!((told.len(), told[0].0), (1, StageState::Done));
        assert!(told[0].1.contains("it was +5.0") || told[0].1.contains("it was +4.9"), "{told:?}");
        assert!(told[0].1.contains(&format!("{} is 25", servers[2])), "{told:?}");
        assert_eq!(kernel.unix_time(), NOW as u64 + 5);
    }

    proptest! {
        #[test]
        fn no_round_moves_the_clock_far_or_before_the_build(
            offsets in proptest::collection::vec(
                prop_oneof![-400.0..400.0, -1e12..1e12, Just(f64::NAN), Just(f64::INFINITY)], 0..9),
        ) {
            if let (Verdict::Step(by) | Verdict::Slew(by), _, _) = judged(&offsets) {
                prop_assert!(by.abs() <= FAR && NOW + by >= FLOOR);
            }
        }
    }
}
