//! Where the near side of an episode elsewhere records it: in a loom that is known, or in one that its host has yet to name.

use std::sync::{Arc, OnceLock};

use crate::domain::ids::{EntityId, LoomId};
use crate::ports::HomeError;

use super::fault::Fault;
use super::host::Host;
use super::intake::Intake;
use super::recorder::Loom;

/// The loom of an episode, and the entity in it.
pub(super) struct Known {
    pub(super) loom: Loom,
    pub(super) intake: Intake,
    entity: Option<EntityId>,
}

/// Where an episode is recorded.
pub(super) struct Place {
    known: OnceLock<Known>,
    /// Opens the loom that the host names.
    host: Option<Arc<Host>>,
}

impl Place {
    /// In this loom.
    pub(super) fn known(loom: Loom, intake: Intake) -> Self {
        Self { known: OnceLock::from(Known { loom, intake, entity: None }), host: None }
    }

    /// Wherever the host says when it accepts the cast.
    pub(super) fn asked(host: Arc<Host>) -> Self {
        Self { known: OnceLock::new(), host: Some(host) }
    }

    /// Takes the host's names for what it was asked to name. On a further connection they have to be the same.
    pub(super) fn named(&self, loom: LoomId, entity: EntityId) -> Result<(), HomeError> {
        let Some(host) = &self.host else { return Ok(()) };
        if let Some(known) = self.known.get() {
            if (known.loom.id(), known.entity) == (loom, Some(entity)) {
                return Ok(());
            }
            return Err(HomeError::Refused("it names the loom and the entity otherwise than before".to_owned()));
        }
        let open = host.open(loom).map_err(home_error)?;
        let intake = Intake::new(open.clone(), (entity, None)).map_err(home_error)?;
        // Set above or here: one connection at a time is heard.
        drop(self.known.set(Known { loom: open, intake, entity: Some(entity) }));
        Ok(())
    }

    /// The place, once it is known.
    pub(super) fn get(&self) -> Result<&Known, HomeError> {
        self.known
            .get()
            .ok_or_else(|| HomeError::Refused("it sends an entry before it has accepted the cast".to_owned()))
    }

    /// What the host has named, where it was asked to.
    pub(super) fn told(&self) -> Option<(Loom, EntityId)> {
        let known = self.known.get()?;
        Some((known.loom.clone(), known.entity?))
    }
}

/// What a fault of the record means for whoever sends.
pub(super) fn home_error(fault: Fault) -> HomeError {
    let Fault::Store(error) = fault else { return HomeError::Refused(fault.to_string()) };
    HomeError::Store(error)
}
