//! What may happen, and what may not: the hostile peer's rights by seed, the bounds of what a node keeps for it, and what is not
//! promised yet.

use cantrip_runtime::adapters::store::MemoryStore;
use cantrip_runtime::domain::ids::LoomId;
use cantrip_runtime::ports::LoomStore;
use std::collections::BTreeSet;
use std::path::Path;

use super::HONEST;
use super::forge::Dice;

/// What the nodes that list the hostile peer grant to it. Everything else is to be refused, whatever it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the node's file")]
pub(crate) struct Rights {
    pub(crate) cast: bool,
    pub(crate) deploy: bool,
    pub(crate) keep: bool,
    /// The gate `deed`. `vault` is granted to nobody.
    pub(crate) deed: bool,
    /// Casting children. On which nodes is another right, which it never has.
    pub(crate) children: bool,
    /// The host's model.
    pub(crate) model: bool,
    pub(crate) gates_at_caller: bool,
    pub(crate) model_at_caller: bool,
}

impl Rights {
    /// Mostly everything, now and then something less: a right that is missing is what an attack is about.
    pub(crate) fn of(dice: &mut Dice) -> Self {
        let mut has = |once_in_not: u64| !dice.once_in(once_in_not);
        Self {
            cast: has(6),
            deploy: has(3),
            keep: has(4),
            deed: has(2),
            children: has(2),
            model: has(3),
            gates_at_caller: has(6),
            model_at_caller: has(6),
        }
    }

    /// Whether a deed of the hostile peer's entities may have been done with a node's own gate.
    pub(crate) const fn allow_deed(self, lists: bool) -> bool {
        lists && self.cast && self.deed
    }

    pub(crate) const fn allow_model(self, lists: bool) -> bool {
        lists && self.cast && self.model
    }
}

/// A promise that does not hold yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Later {
    ForgedAcknowledgements,
    GatesOfTheCallerWithoutRecord,
    SpentElsewhere,
    LoomsThatTheirCallerDoesNotKeep,
}

/// What is not promised yet, and what would show it. Whoever makes a promise true switches its line on.
pub(crate) const LATER: &[(Later, bool, &str)] = &[
    (Later::ForgedAcknowledgements, false, "a keeper acknowledges no more than it was sent"),
    (
        Later::GatesOfTheCallerWithoutRecord,
        false,
        "a gate at the caller runs only for a call that the host has recorded",
    ),
    (Later::SpentElsewhere, false, "tokens that this side has measured are spent, whatever a host says"),
    (
        Later::LoomsThatTheirCallerDoesNotKeep,
        false,
        "whoever knows the id of a loom before its caller has recorded anything of it is not taken for a keeper of it",
    ),
    // Not looked at here: ceilings and exposure after a resume, gates that a relay asks twice, adoptions in memory, `no_trifecta`
    // through errors, and archives with unsigned entries. Their tests come with what makes them true.
];

pub(crate) fn is_promised(what: Later) -> bool {
    LATER.iter().any(|(later, is_on, _)| *later == what && *is_on)
}

/// 64 KiB for one file of the book: 64 keepers with names of 63 characters need less than a tenth of it.
const BOOK_FILE_BYTES_MAX: u64 = 64 * 1024;
/// 2 000 files of the book. A scenario names fewer looms; twice what one peer may name.
const BOOK_FILES_MAX: usize = 2_000;
/// 128 KiB for one proof: two sides of 1 024 ids with their places.
const PROOF_BYTES_MAX: usize = 128 * 1024;
/// 64 KiB that the hostile peer may bring of guests.
pub(crate) const UPLOAD_BYTES_MAX: u64 = 64 * 1024;
/// 256 MiB of entries and texts that one scenario may leave behind.
const TEXT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What is wrong with the size of what a node keeps in its folder.
pub(crate) fn too_large(name: &str, folder: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    let book = files(&folder.join("copies"));
    if book.len() > BOOK_FILES_MAX {
        wrong.push(format!("{name} has {} files of its book", book.len()));
    }
    wrong.extend(
        book.iter()
            .filter(|(_, bytes)| *bytes > BOOK_FILE_BYTES_MAX)
            .map(|(file, bytes)| format!("{name}: {file} of its book has {bytes} bytes")),
    );
    let brought: u64 = files(&folder.join("uploads")).iter().map(|(_, bytes)| bytes).sum();
    if brought > UPLOAD_BYTES_MAX {
        wrong.push(format!(
            "{name} keeps {brought} bytes of the hostile peer's uploads; {UPLOAD_BYTES_MAX} are granted"
        ));
    }
    wrong
}

/// Every file below a folder, with its size.
pub(crate) fn files(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => found.extend(files(&path)),
            Ok(metadata) => found.push((path.display().to_string(), metadata.len())),
            Err(_) => {}
        }
    }
    found
}

/// What is wrong with what a node has recorded.
pub(crate) fn recorded_wrongly(name: &str, store: &MemoryStore, honest: &[LoomId]) -> Vec<String> {
    let mut wrong = Vec::new();
    let looms: Vec<LoomId> = store.looms().unwrap().iter().map(|summary| summary.loom).collect();
    let mut writers = BTreeSet::new();
    let mut bytes = 0;
    for loom in &looms {
        writers.extend(store.logs(*loom).unwrap().iter().map(|log| log.writer));
        bytes += store.entries(*loom).unwrap().iter().map(|sealed| sealed.bytes.len() as u64).sum::<u64>();
    }
    if bytes > TEXT_BYTES_MAX {
        wrong.push(format!("{name} has recorded {bytes} bytes"));
    }
    for proof in store.proofs().unwrap() {
        let size = proof.to_bytes().len();
        let is_known = writers.contains(&proof.writer);
        if size > PROOF_BYTES_MAX || !is_known {
            let writer = proof.writer;
            wrong.push(format!("{name} keeps a proof of {size} bytes against {writer}, of whom it keeps nothing else"));
        }
    }
    for loom in honest {
        let logs = store.logs(*loom).unwrap().len();
        if logs > HONEST.len() {
            wrong.push(format!("{name} keeps {logs} logs of {loom}, in which {} nodes write", HONEST.len()));
        }
    }
    // What the hostile peer writes into looms of its own may refer to nothing; what is honest stays in order.
    for loom in honest {
        let findings = store.verify(Some(*loom)).unwrap().findings;
        if !findings.is_empty() {
            wrong.push(format!("{name}: {findings:?}"));
        }
    }
    wrong
}
