//! Staying known to the provisioner: a certificate that is renewed at half its time, and a sign of
//! life by it, which is answered by what the provisioner wishes.

use super::{Machine, attempts::wanted};
use crate::{
    api::{self, Wished},
    http::HttpError,
    kernel::End,
    net::Network,
    readings::Sensors,
    relay,
    runner::back_off,
    secured::{self, SecuredError},
};
use protocol::{
    boot::StageState,
    certificate::{ALIVE_SECONDS, Readings, Wish},
};
use std::{convert::Infallible, rc::Rc, time::Duration};
use tokio::{sync::oneshot, time::sleep};

/// What reports of it are called.
const NAME: &str = "certificate";
/// What reports of its wishes are called.
const WISH: &str = "wish";
/// Pauses between attempts to get one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MOST_PAUSE: Duration = Duration::from_secs(60);
/// Until the next sign of life where a wish is being carried out.
const SOON: Duration = Duration::from_secs(10);

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

    /// Carries out what the provisioner wishes anew: whom somebody has work by the node API meanwhile
    /// is let work. What cannot be done yet is tried again at the next sign of life. Gives whether
    /// there was anything to do.
    async fn obey(&self, obeyed: &mut Wish, wish: Wish) -> bool {
        let (mine, told) = match wish {
            _ if wish == *obeyed => return false,
            Wish::Work => (api::Wish::Undrain, "that it works again"),
            Wish::Drain => (api::Wish::Drain, "that it finishes its work and takes no more"),
            Wish::Restart => (api::Wish::End(End::Restart), "that it restarts"),
            Wish::Other => return false,
        };
        self.say(WISH, StageState::Started, &format!("the provisioner's: {told}"));
        let (answer, answered) = oneshot::channel();
        let _ = self.wishes.send(Wished { wish: mine, answer }).await;
        match answered.await {
            Ok(Ok(done)) => {
                *obeyed = wish;
                self.say(WISH, StageState::Done, &done);
            }
            Ok(Err(why)) => self.say(WISH, StageState::Retrying, &why),
            // The machine ends.
            Err(_) => {}
        }
        true
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
        let mut obeyed = Wish::Work;
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
                let compute = self.reporter.status().compute;
                let drained = compute.drained && compute.pid.is_none();
                let said = secured::alive(&arguments, &identity, mac, &channel, readings, drained);
                match said.await {
                    Ok(wish) => {
                        // Not before it is seen to work: a firewall between may know of no TLS.
                        self.reporter.speak_by(Some(channel.clone()));
                        if failures > 0 || told.is_none() {
                            let hours = lasts.as_secs() / 3600;
                            let text =
                                format!("known to {} by TLS for {hours} h", arguments.provisioner);
                            self.say(NAME, StageState::Done, &text);
                            (failures, told) = (0, Some(String::new()));
                        }
                        let drains = wish == Wish::Drain && !drained;
                        let soon = self.obey(&mut obeyed, wish).await || drains;
                        sleep(if soon { SOON } else { Duration::from_secs(ALIVE_SECONDS) }).await;
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
