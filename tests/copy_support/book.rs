//! Who keeps what, in memory, and the same terms for everybody.

#![expect(clippy::expect_used, reason = "a failure here fails the test")]

use std::collections::BTreeMap;
use std::sync::Mutex;

use cantrip_runtime::adapters::store::NodeKey;
use cantrip_runtime::domain::copies::{Keeper, LoomCopies};
use cantrip_runtime::domain::ids::LoomId;
use cantrip_runtime::driver::{CopyPolicy, CopyTerms};
use cantrip_runtime::ports::{CopyBook, StoreError};

/// A book in memory.
#[derive(Debug, Default)]
pub(crate) struct Book(Mutex<BTreeMap<LoomId, LoomCopies>>);

impl CopyBook for Book {
    fn load(&self) -> Result<Vec<LoomCopies>, StoreError> {
        Ok(self.0.lock().expect("the lock").values().cloned().collect())
    }

    fn save(&self, copies: &LoomCopies) -> Result<(), StoreError> {
        self.0.lock().expect("the lock").insert(copies.loom, copies.clone());
        Ok(())
    }
}

/// The same terms for everybody.
#[derive(Debug)]
pub(crate) struct Terms(pub(crate) CopyTerms);

impl CopyPolicy for Terms {
    fn terms(&self, _: &Keeper) -> CopyTerms {
        self.0
    }
}

pub(crate) const OPEN: CopyTerms = CopyTerms { disk: true, memory: true, bytes_max: u64::MAX, looms_max: 10_000 };

pub(crate) fn key(number: u8) -> NodeKey {
    NodeKey::from_secret(&[number; 32])
}
