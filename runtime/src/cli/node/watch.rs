//! What a node that serves watches of its own machine: its certificate, who can read its key, and whom its file denies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::adapters::peer::{CertificateInfo, Identity};
use crate::adapters::private;
use crate::cli::say;
use crate::domain::ids::NodeName;
use crate::ports::Clock;

use super::file::load_tls;
use super::member::{self, Membership};

/// Watch interval: the node file and the certificates are looked at every second.
const LOOK: Duration = Duration::from_secs(1);
/// A warning is repeated once a day.
const AGAIN_US: u64 = 24 * 60 * 60 * 1_000_000;

/// What was warned of, and when.
#[derive(Debug, Default)]
struct Warned(BTreeMap<String, u64>);

impl Warned {
    /// Of these concerns those that are to be said now: new ones, and each again after a day. `key` tells one concern from another,
    /// whatever number of days its words have.
    fn due(&mut self, now_us: u64, concerns: Vec<(String, String)>) -> Vec<String> {
        self.0.retain(|key, _| concerns.iter().any(|(known, _)| known == key));
        let mut due = Vec::new();
        for (key, words) in concerns {
            let is_due = self.0.get(&key).is_none_or(|&at_us| now_us.saturating_sub(at_us) >= AGAIN_US);
            if is_due {
                self.0.insert(key, now_us);
                due.push(words);
            }
        }
        due
    }
}

/// The concerns of a node, each with what tells it from others.
fn concerns(info: &CertificateInfo, name: &NodeName, key: (&Path, Option<u32>), now_us: u64) -> Vec<(String, String)> {
    let (file, mode) = key;
    let renew = "`cantrip-runtime cluster renew` makes a new one, also while this node serves";
    let of_certificate = info.concerns(name, now_us).into_iter().map(|concern| {
        let kind = std::mem::discriminant(&concern);
        (format!("{kind:?} {}", info.fingerprint), format!("warning: {concern}; {renew}"))
    });
    let of_key = mode.map(|mode| {
        let file = file.display();
        (
            format!("key {mode:o}"),
            format!("warning: others can read the key {file} (mode {mode:04o}), and be this node: chmod 600 {file}, then renew it"),
        )
    });
    of_certificate.chain(of_key).collect()
}

/// The node whose certificate is watched.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) identity: Arc<Identity>,
    /// Without its address.
    pub(super) name: NodeName,
    pub(super) key: PathBuf,
    pub(super) config: PathBuf,
    /// Nothing once it could not be looked at any more.
    pub(super) membership: Option<Membership>,
}

impl Watch {
    /// Watches until it is aborted. The time is the clock's, so that a year can pass in a test.
    pub(super) async fn keep(mut self, clock: &dyn Clock) {
        let mut warned = Warned::default();
        let mut shown = None;
        let mut file = private::changed(&self.config);
        loop {
            let info = self.identity.certificate();
            if shown != Some(info.fingerprint) {
                say(&format!("its certificate is {} until {}", info.fingerprint, info.period.last_day()));
                shown = Some(info.fingerprint);
            }
            if let Some(membership) = self.membership.take() {
                self.membership = member::look(membership).await;
            }
            let mode = private::open_to_others(&self.key).unwrap_or_default();
            let all = concerns(&info, &self.name, (&self.key, mode), clock.now_us());
            warned.due(clock.now_us(), all).iter().for_each(|words| say(words));
            clock.sleep(LOOK).await;
            let now = private::changed(&self.config);
            if now != file {
                file = now;
                self.deny();
            }
        }
    }

    /// Takes the deny list over from the node file. The rest of a changed file counts at the next start.
    fn deny(&self) {
        match load_tls(&self.config) {
            Ok(tls) => {
                let count = tls.deny.len();
                self.identity.deny(tls.deny);
                say(&format!("the node file has changed: {count} certificates are denied"));
            }
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::warn!(error, "the changed node file cannot be read; who is denied stays as it was");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::peer::{Period, make_authority, make_certificate_for};

    const DAY_US: u64 = AGAIN_US;
    const NOW_US: u64 = 1_900_000_000_000_000;

    fn agents() -> NodeName {
        "agents".parse().unwrap()
    }

    fn certificate(name: &str, period: Period) -> CertificateInfo {
        let (_, key) = make_authority().unwrap();
        CertificateInfo::from_pem(&make_certificate_for(&key, &name.parse().unwrap(), period).unwrap().0).unwrap()
    }

    /// What is said at a time, of one certificate with a key that only its owner reads.
    fn said(info: &CertificateInfo, now_us: u64) -> Vec<String> {
        concerns(info, &agents(), (Path::new("node.key"), None), now_us).into_iter().map(|(_, words)| words).collect()
    }

    #[test]
    fn a_certificate_that_is_made_now_lasts_ninety_days() {
        let info = certificate("agents", Period::of_node(NOW_US));
        assert_eq!((info.period.until_us - NOW_US) / DAY_US, 90);
        assert!(info.period.from_us < NOW_US && NOW_US - info.period.from_us < DAY_US / 24);
        assert_eq!(info.names, ["agents"]);
    }

    #[test]
    fn a_node_hears_of_its_certificates_end_once_a_day_from_fourteen_days_before() {
        let info = certificate("agents", Period::of_node(NOW_US));
        let mut warned = Warned::default();
        let mut days = Vec::new();
        for hour in 0..24 * 95_u64 {
            let now_us = NOW_US + hour * DAY_US / 24;
            let all = concerns(&info, &agents(), (Path::new("node.key"), None), now_us);
            for words in warned.due(now_us, all) {
                days.push((hour / 24, words));
            }
        }
        assert_eq!(days.first().map(|(day, _)| *day), Some(76), "{days:?}");
        assert!(days.len() <= 21 && days.iter().any(|(day, words)| *day == 89 && words.contains("ends")), "{days:?}");
        assert!(days.last().is_some_and(|(_, words)| words.contains("expired")), "{days:?}");
        assert!(days.iter().all(|(_, words)| words.contains("cluster renew")));
    }

    #[test]
    fn a_certificate_that_no_peer_would_take_is_named_at_the_start() {
        let info = certificate("agents", Period { from_us: NOW_US, until_us: NOW_US + DAY_US * 30 });
        assert!(said(&info, NOW_US + DAY_US).is_empty());
        assert!(said(&info, NOW_US - DAY_US).concat().contains("not valid before"));
        assert!(said(&info, NOW_US + DAY_US * 31).concat().contains("expired"));
        let other = certificate("analysis", Period { from_us: NOW_US, until_us: NOW_US + DAY_US * 30 });
        assert!(said(&other, NOW_US + DAY_US).concat().contains("is for analysis, and this node is agents"));
    }

    #[test]
    fn a_key_that_others_can_read_is_named_with_its_mode_until_it_is_closed() {
        let info = certificate("agents", Period::of_node(NOW_US));
        let mut warned = Warned::default();
        let mut look = |day: u64, mode| {
            let now_us = NOW_US + day * DAY_US;
            warned.due(now_us, concerns(&info, &agents(), (Path::new("node.key"), mode), now_us))
        };
        assert!(look(0, Some(0o644)).concat().contains("node.key (mode 0644)"));
        assert!(look(0, Some(0o644)).is_empty(), "once a day");
        assert_eq!(look(1, Some(0o640)).len(), 1);
        assert!(look(2, None).is_empty());
        assert_eq!(look(2, Some(0o644)).len(), 1, "opened again, it is said again");
    }
}
