//! Staying known to the provisioner: a certificate that is renewed at half its time, and a sign of
//! life by it.

use super::{Machine, attempts::wanted};
use crate::{
    http::HttpError,
    net::Network,
    readings::Sensors,
    relay,
    runner::back_off,
    secured::{self, SecuredError},
};
use protocol::{
    boot::StageState,
    certificate::{ALIVE_SECONDS, Readings},
};
use std::{convert::Infallible, rc::Rc, time::Duration};
use tokio::time::sleep;

/// What reports of it are called.
const NAME: &str = "certificate";
/// Pauses between attempts to get one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MOST_PAUSE: Duration = Duration::from_secs(60);

impl<N: Network> Machine<N> {
    /// What sensors say; some of them answer slowly.
    async fn read_sensors(&self, sensors: &mut Sensors) -> Option<Readings> {
        let cards = self.readings.borrow().clone();
        let mut taken = std::mem::take(sensors);
        let read = self.local(move |kernel| {
            let readings = taken.read(kernel, &cards);
            Ok::<_, Infallible>((taken, readings))
        });
        let (taken, readings) = read.await.ok()?;
        *sensors = taken;
        readings
    }

    /// Sends the console's lines to the provisioner that knows us.
    pub(super) async fn relay_console(self: Rc<Self>) {
        let way = {
            let facts = self.facts.borrow();
            let arguments = wanted(&facts.arguments, "the command line");
            let Ok((arguments, mac)) =
                arguments.and_then(|a| Ok((a, wanted(&facts.mac, "the NIC")?)))
            else {
                return;
            };
            relay::Way { provisioner: arguments.provisioner, mac, boot_id: self.boot_id }
        };
        let (reporter, ring) = (self.reporter.clone(), self.reporter.console().ring().clone());
        let log = self.kernel.open_kernel_log().ok();
        relay::run(log, ring, way, move || reporter.secured()).await;
    }

    /// Runs from the node's enrolment until the machine ends. A provisioner that knows of no
    /// certificates is spoken to as before.
    pub(super) async fn stay_known(self: Rc<Self>) {
        let (arguments, identity, mac) = {
            let facts = self.facts.borrow();
            let arguments = wanted(&facts.arguments, "the command line");
            let identity = wanted(&facts.identity, "the node's key");
            match (arguments, identity, wanted(&facts.mac, "the NIC")) {
                (Ok(arguments), Ok(identity), Ok(mac)) => (arguments, identity, mac),
                _ => return,
            }
        };
        let (mut failures, mut told) = (0, None);
        let mut sensors = Sensors::default();
        loop {
            let made = secured::fetch(self.kernel.as_ref(), &arguments, &identity, mac).await;
            let (channel, lasts) = match made {
                Ok(made) => made,
                Err(SecuredError::Http(HttpError::Refused { status: 404, .. })) => {
                    self.reporter.speak_by(None);
                    return;
                }
                Err(error) => {
                    failures += 1;
                    let text = error.to_string();
                    if told.as_ref() != Some(&text) {
                        self.say(NAME, StageState::Retrying, &text);
                        told = Some(text);
                    }
                    sleep(back_off(FIRST_PAUSE, MOST_PAUSE, failures)).await;
                    continue;
                }
            };
            let renewed = self.kernel.since_start() + lasts / 2;
            while self.kernel.since_start() < renewed {
                let readings = self.read_sensors(&mut sensors).await;
                match secured::alive(&arguments, &identity, mac, &channel, readings).await {
                    Ok(()) => {
                        // Not before it is seen to work: a firewall between may know of no TLS.
                        self.reporter.speak_by(Some(channel.clone()));
                        if failures > 0 || told.is_none() {
                            let hours = lasts.as_secs() / 3600;
                            let text =
                                format!("known to {} by TLS for {hours} h", arguments.provisioner);
                            self.say(NAME, StageState::Done, &text);
                            (failures, told) = (0, Some(String::new()));
                        }
                        sleep(Duration::from_secs(ALIVE_SECONDS)).await;
                    }
                    Err(error) => {
                        failures += 1;
                        let text = error.to_string();
                        if told.as_ref() != Some(&text) {
                            self.say(NAME, StageState::Retrying, &text);
                            told = Some(text);
                        }
                        sleep(back_off(FIRST_PAUSE, MOST_PAUSE, failures)).await;
                        // It may be that the provisioner has another CA now, or another port.
                        break;
                    }
                }
            }
        }
    }
}
