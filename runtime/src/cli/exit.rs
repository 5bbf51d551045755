//! How a command ends.

use std::process::ExitCode;

use thiserror::Error;

use super::file::FileError;
use super::trust;
use crate::domain::ids::EntityId;
use crate::domain::loom::ViewError;
use crate::driver::Fault;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Everything was done.
    Done = 0,
    /// The entity failed or was truncated, or a case failed.
    Failed = 1,
    /// The command line or a file is wrong; nothing ran.
    Usage = 2,
    /// The runtime itself could not go on.
    Fault = 3,
    /// The record is damaged.
    Damaged = 4,
    /// Another node could not be reached, or refused.
    Peer = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that says how the command ends, and what a person can do.
#[derive(Debug, Error)]
#[error("{source}")]
pub(super) struct CliError {
    pub(super) exit: Exit,
    pub(super) source: anyhow::Error,
    pub(super) hint: Option<String>,
}

impl CliError {
    pub(super) fn usage(source: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Usage, source: source.into(), hint: None }
    }

    /// What could not be gone on with. What a later version has written is no fault: it is not for this version to go on with.
    pub(super) fn fault(source: impl Into<anyhow::Error>) -> Self {
        let source = source.into();
        let is_later = source.chain().filter_map(|cause| cause.downcast_ref()).any(ViewError::is_of_a_later_version);
        Self { exit: if is_later { Exit::Usage } else { Exit::Fault }, source, hint: None }
    }

    /// What a loom's record does not permit is for whoever asked; whatever else the driver cannot do is ours.
    pub(super) fn driver(fault: Fault) -> Self {
        match fault {
            Fault::Unanswered(ref silent) => {
                let hint = format!(
                    "start those nodes; or go on without asking them, which loses what only they have: `loom replicate {} --to NODE --acks 0 \
                     --accept-loss`; `loom status` says who keeps it",
                    silent.loom
                );
                let error = Self::usage(fault);
                Self { exit: Exit::Peer, ..error }.hint(hint)
            }
            Fault::NotFenced(ref too_few) => {
                let entity = too_few.entity;
                Self::usage(fault).too_few_keepers(entity)
            }
            Fault::NotPermitted { .. }
            | Fault::Contended { .. }
            | Fault::Expelled { .. }
            | Fault::Founder { .. }
            | Fault::Nodes { .. }
            | Fault::NoNode { .. }
            | Fault::NoLoom { .. }
            | Fault::Void { .. }
            | Fault::Foreign(_)
            | Fault::Unsigned { .. } => Self::usage(fault),
            Fault::Store(_)
            | Fault::Copies(_)
            | Fault::View(_)
            | Fault::Entry(_)
            | Fault::Opening(_)
            | Fault::Medium(_)
            | Fault::OtherGuest { .. }
            | Fault::Unproved { .. }
            | Fault::Stopped(_)
            | Fault::OwnEntity { .. }
            | Fault::Elsewhere { .. }
            | Fault::Fenced { .. }
            | Fault::NewKey { .. }
            | Fault::NotAsked { .. }
            | Fault::SetAside { .. }
            | Fault::Unminted(_)
            | Fault::OutOfStep(_)
            | Fault::NoResult(_) => Self::fault(fault),
        }
    }

    /// Too few keepers have said that they acknowledge nothing more of an entity.
    pub(super) fn too_few_keepers(self, entity: EntityId) -> Self {
        let hint = format!(
            "start those nodes and try again; `loom adopt {entity} --accept-loss` does it without them, and what only they have is lost"
        );
        Self { exit: Exit::Peer, ..self }.hint(hint)
    }

    /// A file that cannot be used, with what would help.
    pub(super) fn file(error: FileError) -> Self {
        let hint = match &error {
            FileError::Untrusted(untrusted) => Some(format!(
                "`{}` shows what it reaches and trusts it; without a terminal nobody is asked",
                trust::command(&untrusted.file)
            )),
            FileError::Read { .. } | FileError::Size { .. } | FileError::Wrong { .. } | FileError::Trust(_) => None,
        };
        Self { hint, ..Self::usage(error) }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
