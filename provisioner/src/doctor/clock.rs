//! Our clock, which nodes take their signed time from.

use super::{
    finding::{Check, Finding},
    host::Host,
};
use futures::future::join_all;
use reqwest::{Client, header::DATE};
use rsntp::{AsyncSntpClient, Config};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// NTP's.
const PORT: u16 = 123;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(3);
/// At most so many are asked.
const MAX_ASKED: usize = 8;
/// Nodes let NTP move the clock by at most this from our signed time, in seconds (`FAR` of
/// node-init's time.rs).
const FAR: f64 = 300.0;
/// From here on, in seconds, it is worth a word.
const NEAR: f64 = 1.0;
/// A header's date has whole seconds, and is as old as its way here.
const DATE_NEAR: f64 = 3.0;
/// 2025-01-01: before this project, so that no clock that is set says less.
const EARLIEST: f64 = 1_735_689_600.0;

/// Why it matters.
const WHY: &str = "nodes take their first time from here, signed: a wrong one makes releases and \
                   certificates look expired or not yet valid, and they let NTP move it by 300 s \
                   at most";

/// Where a time came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// An NTP server that is configured.
    Configured,
    /// An NTP server that DHCP names (42).
    Dhcp,
    /// The ledger's `Date` header.
    Ledger,
}

/// One that was asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) source: Source,
    pub(super) name: String,
    /// How far its clock is before ours, in seconds; or why it is not known.
    pub(super) offset: Result<f64, String>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// What our clock says, in seconds since 1970.
    pub(super) now: f64,
    /// The service that keeps it, if one is known by its traces: whether it says that it is kept.
    pub(super) kept: Option<(&'static str, bool)>,
    pub(super) answers: Vec<Answer>,
}

/// What is to be said of it. Pure.
pub(super) fn judge(seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    if seen.now < EARLIEST {
        findings.push(Finding::problem(
            Check::Clock,
            "our clock says that it is before 2025: it was never set",
            WHY,
            "set it: `timedatectl set-ntp true`, or `date --set`; look at the board's battery",
        ));
    }
    for answer in &seen.answers {
        let (from, near) = match answer.source {
            Source::Configured => (format!("the time server {}", answer.name), NEAR),
            Source::Dhcp => (format!("{}, named by DHCP as a time server,", answer.name), NEAR),
            Source::Ledger => (format!("the ledger {}", answer.name), DATE_NEAR),
        };
        findings.push(match &answer.offset {
            Err(error) => Finding::unknown(
                Check::Clock,
                format!("what {from} says of our clock: {error}"),
                WHY,
                "name one that answers by --time-server, or let UDP port 123 pass",
            ),
            Ok(offset) if !offset.is_finite() => Finding::unknown(
                Check::Clock,
                format!("what {from} says of our clock: its answer makes no sense"),
                WHY,
                "name another by --time-server",
            ),
            Ok(offset) => {
                let word = if *offset > 0.0 { "behind" } else { "before" };
                let what = format!("our clock is {:.3} s {word} {from}", offset.abs());
                let what = what.trim_end_matches(',').to_string();
                let change = "have it kept by NTP: `timedatectl set-ntp true`, or chrony";
                match offset.abs() {
                    far if far > FAR => Finding::problem(Check::Clock, what, WHY, change),
                    far if far > near => Finding::advice(Check::Clock, what, WHY, change),
                    _ => Finding::ok(Check::Clock, what),
                }
            }
        });
    }
    let compared = seen.answers.iter().any(|answer| answer.offset.is_ok());
    match seen.kept {
        Some((by, true)) => {
            findings.push(Finding::ok(Check::Clock, format!("{by} keeps our clock")));
        }
        Some((by, false)) => findings.push(Finding::advice(
            Check::Clock,
            format!("{by} runs, but has not set our clock since the start"),
            WHY,
            "`timedatectl timesync-status` says which servers it asks; let UDP port 123 pass",
        )),
        None if compared => {}
        None => findings.push(Finding::unknown(
            Check::Clock,
            "whether our clock is right: no service that keeps it was found here, and nobody \
             could be asked",
            WHY,
            "name an NTP server by --time-server, and have our own clock kept by systemd-timesyncd \
             or chrony",
        )),
    }
    findings
}

/// Asks everybody who is named, and looks who keeps the clock.
pub(super) async fn look(
    host: &Host,
    configured: &[String],
    dhcp: &[Ipv4Addr],
    ledgers: &[String],
) -> Seen {
    let named = |source, name: String| (source, name);
    let asked = configured
        .iter()
        .map(|name| named(Source::Configured, name.clone()))
        .chain(dhcp.iter().map(|address| named(Source::Dhcp, address.to_string())))
        .chain(ledgers.iter().map(|url| named(Source::Ledger, url.clone())))
        .take(MAX_ASKED);
    let answers = join_all(asked.map(|(source, name)| async move {
        let offset = match source {
            Source::Ledger => date(&name).await,
            Source::Configured | Source::Dhcp => ntp(&name).await,
        };
        Answer { source, name, offset }
    }));
    Seen { now: now(), kept: kept(host), answers: answers.await }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Who keeps the clock. The kernel's own word (adjtimex(2)) cannot be had without unsafe code.
fn kept(host: &Host) -> Option<(&'static str, bool)> {
    let is = |path| host.has(path);
    if is("run/systemd/timesync") {
        return Some(("systemd-timesyncd", is("run/systemd/timesync/synchronized")));
    }
    // They are there while the service runs; what it has come to only its own tools tell.
    let running = [
        ("run/chrony/chronyd.pid", "chronyd"),
        ("run/chronyd.pid", "chronyd"),
        ("run/ntpd.pid", "ntpd"),
    ];
    running.into_iter().find(|(path, _)| is(path)).map(|(_, name)| (name, true))
}

/// An NTP server's offset, in seconds.
async fn ntp(server: &str) -> Result<f64, String> {
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

/// The offset of a web server's clock by its `Date` header (RFC 9110 section 6.6.1), in seconds.
async fn date(url: &str) -> Result<f64, String> {
    let client = Client::builder()
        .timeout(ANSWER)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| error.to_string())?;
    let before = now();
    let answer = client.get(format!("{url}/health")).send().await;
    let between = (before + now()) / 2.0;
    let answer = answer.map_err(|error| {
        if error.is_timeout() {
            "no answer in time".into()
        } else {
            error.without_url().to_string()
        }
    })?;
    let header = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
    header_offset(header, between)
}

fn header_offset(header: Option<&str>, now: f64) -> Result<f64, String> {
    let date = header.ok_or("its answer has no date")?;
    let date = httpdate::parse_http_date(date).map_err(|_| "its answer's date makes no sense")?;
    let date = date.duration_since(UNIX_EPOCH).map_err(|_| "its date is before 1970")?;
    // Half a second: it was cut off to whole ones.
    Ok(date.as_secs_f64() + 0.5 - now)
}

/// The time servers that DHCP names.
pub(super) fn named(lists: impl IntoIterator<Item = Vec<Ipv4Addr>>) -> Vec<Ipv4Addr> {
    let mut all: Vec<Ipv4Addr> = lists.into_iter().flatten().collect();
    all.sort();
    all.dedup();
    all.truncate(MAX_ASKED);
    all
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Verdict, *};

    const NOW: f64 = 1_772_323_200.0;

    fn seen(offset: Result<f64, String>, source: Source) -> Seen {
        let answers = vec![Answer { source, name: "10.0.0.3".into(), offset }];
        Seen { now: NOW, kept: None, answers }
    }

    fn verdict(seen: &Seen) -> Verdict {
        judge(seen).into_iter().map(|finding| finding.verdict).min().unwrap()
    }

    #[test]
    fn how_far_off_decides() {
        for (offset, expected) in [
            (0.2, Verdict::Ok),
            (-0.2, Verdict::Ok),
            (2.0, Verdict::Advice),
            (-250.0, Verdict::Advice),
            (301.0, Verdict::Problem),
            (-1e9, Verdict::Problem),
            (f64::NAN, Verdict::Unknown),
        ] {
            assert_eq!(verdict(&seen(Ok(offset), Source::Configured)), expected, "{offset}");
        }
        assert_eq!(verdict(&seen(Ok(2.0), Source::Ledger)), Verdict::Ok);
        let said = &judge(&seen(Ok(2.0), Source::Dhcp))[0];
        assert!(said.what.starts_with("our clock is 2.000 s behind 10.0.0.3"), "{said:?}");
    }

    #[test]
    fn nobody_to_ask_is_not_good() {
        assert_eq!(verdict(&seen(Err("silence".into()), Source::Dhcp)), Verdict::Unknown);
        let alone = Seen { now: NOW, ..Seen::default() };
        assert_eq!(verdict(&alone), Verdict::Unknown);
        let kept = Seen { kept: Some(("systemd-timesyncd", true)), ..alone.clone() };
        assert_eq!(verdict(&kept), Verdict::Ok);
        let not_yet = Seen { kept: Some(("systemd-timesyncd", false)), ..alone };
        assert_eq!(verdict(&not_yet), Verdict::Advice);
        assert_eq!(verdict(&Seen { now: 5.0, ..Seen::default() }), Verdict::Problem);
    }

    #[test]
    fn a_header_is_a_clock_too() {
        // 1994-11-06T08:49:37Z.
        let header = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(header_offset(header, 784_111_770.0), Ok(7.5));
        assert!(header_offset(Some("yesterday"), 0.0).is_err());
        assert!(header_offset(None, 0.0).is_err());
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_no_clock() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap().to_string();
        let root = tempfile::tempdir().unwrap();
        let seen = look(&Host::at(root.path()), &[address], &[], &[]).await;
        assert!(seen.answers[0].offset.is_err());
    }
}
