//! Two stores, one script: the same random operations on the record in memory and on disk, and the same answers.

#![expect(clippy::expect_used, clippy::panic_in_result_fn, reason = "a failed assertion is the point of a test")]

mod store_support;

use std::sync::Arc;

use anyhow::Result;
use cantrip_runtime::adapters::store::{FjallStore, MemoryStore};
use cantrip_runtime::domain::ids::EntryId;
use cantrip_runtime::domain::loom::Sealed;
use cantrip_runtime::ports::LoomStore;
use proptest::prelude::*;
use store_support::{entity, loom, open, rewarded, said, wait};

const LOOMS: u8 = 4;
const ENTITIES: u8 = 6;

/// One step. Entries are named by a number that is taken modulo how many there are.
#[derive(Debug, Clone)]
enum Step {
    /// An entity says something after an entry of its loom: the newest, or an older one, which is a fork.
    Say {
        loom: u8,
        entity: u8,
        parent: Option<usize>,
        length: usize,
    },
    /// Somebody judges an entry of whichever loom.
    Judge {
        loom: u8,
        entry: usize,
    },
    /// An entry that does not follow the log.
    Misplace {
        loom: u8,
    },
    Sync {
        loom: u8,
    },
    Compare,
    /// The record on disk is closed and opened again.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let looms = 1..=LOOMS;
    prop_oneof![
        12 => (looms.clone(), 1..=ENTITIES, proptest::option::of(0..64_usize), prop_oneof![9 => 0..200_usize, 1 => 16_000..20_000_usize])
            .prop_map(|(loom, entity, parent, length)| Step::Say { loom, entity, parent, length }),
        2 => (looms.clone(), 0..64_usize).prop_map(|(loom, entry)| Step::Judge { loom, entry }),
        1 => looms.clone().prop_map(|loom| Step::Misplace { loom }),
        3 => looms.prop_map(|loom| Step::Sync { loom }),
        1 => Just(Step::Compare),
        1 => Just(Step::Reopen),
    ]
}

struct Pair {
    folder: tempfile::TempDir,
    memory: Arc<MemoryStore>,
    disk: Option<Arc<FjallStore>>,
    /// What was appended, in order.
    all: Vec<Sealed>,
}

impl Pair {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let disk = open(folder.path())?;
        Ok(Self { memory: MemoryStore::new(disk.writer()), disk: Some(disk), folder, all: Vec::new() })
    }

    fn disk(&self) -> &Arc<FjallStore> {
        self.disk.as_ref().expect("open between two steps")
    }

    fn append(&mut self, sealed: Sealed) {
        let answers =
            [self.memory.append(sealed.clone()), self.disk().append(sealed.clone())].map(|answer| answer.is_ok());
        assert_eq!(answers, [true, true]);
        self.all.push(sealed);
    }

    fn in_loom(&self, number: u8, index: usize) -> Option<EntryId> {
        let own: Vec<&Sealed> = self.all.iter().filter(|sealed| sealed.entry.loom == loom(number)).collect();
        own.get(index.checked_rem(own.len())?).map(|sealed| sealed.id)
    }

    fn run(&mut self, step: &Step) -> Result<()> {
        match step {
            // An entity belongs to one loom.
            Step::Say { loom: number, entity: who, parent, length } => {
                let parent = parent.and_then(|index| self.in_loom(*number, index));
                let text = format!("{}{}", self.all.len(), "x".repeat(*length));
                let who = entity(number * (ENTITIES + 1) + who);
                self.append(said(&*self.memory, loom(*number), who, parent, &text)?);
            }
            Step::Judge { loom: number, entry } => {
                if let Some(index) = entry.checked_rem(self.all.len()) {
                    let of = self.all.get(index).expect("an entry").id;
                    self.append(rewarded(&*self.memory, loom(*number), entity(number * (ENTITIES + 1)), of)?);
                }
            }
            Step::Misplace { loom: number } => {
                let mut wrong = said(&*self.memory, loom(*number), entity(1), None, "wrong")?.entry;
                wrong.sequence += 1;
                let wrong = Sealed::new(wrong, Vec::new())?;
                let answers = [self.memory.append(wrong.clone()), self.disk().append(wrong)];
                let [memory, disk] = answers.map(|answer| answer.map_err(|error| error.to_string()));
                assert_eq!(memory, disk);
                assert!(memory.is_err());
            }
            Step::Sync { loom: number } => wait(self.disk().sync(loom(*number)))?,
            Step::Compare => self.compare()?,
            Step::Reopen => {
                self.disk().close()?;
                self.disk = None;
                self.disk = Some(open(self.folder.path())?);
            }
        }
        Ok(())
    }

    fn compare(&self) -> Result<()> {
        let (memory, disk) = (&*self.memory, &**self.disk());
        let ids = |entries: Vec<Sealed>| {
            entries.into_iter().map(|sealed| (sealed.id, sealed.bytes, sealed.blobs)).collect::<Vec<_>>()
        };
        assert_eq!(memory.looms()?, disk.looms()?);
        for number in 1..=LOOMS {
            assert_eq!(memory.head(loom(number))?, disk.head(loom(number))?);
            assert_eq!(ids(memory.entries(loom(number))?), ids(disk.entries(loom(number))?));
        }
        for number in 0..(LOOMS + 1) * (ENTITIES + 1) {
            assert_eq!(ids(memory.entries_of(entity(number))?), ids(disk.entries_of(entity(number))?));
            assert_eq!(memory.loom_of(entity(number))?, disk.loom_of(entity(number))?);
        }
        for sealed in &self.all {
            assert_eq!(memory.children(sealed.id)?, disk.children(sealed.id)?);
            assert_eq!(
                memory.entry(sealed.id)?.map(|found| found.bytes),
                disk.entry(sealed.id)?.map(|found| found.bytes)
            );
            for blob in &sealed.blobs {
                assert_eq!(memory.blob(blob.id)?, disk.blob(blob.id)?);
                assert_eq!(memory.blob(blob.id)?.as_ref(), Some(&blob.bytes));
            }
        }
        let nothing = EntryId::of(b"nothing");
        assert_eq!((disk.entry(nothing)?.is_none(), memory.entry(nothing)?.is_none()), (true, true));
        Ok(())
    }

    /// With everything on disk, the verifications agree as well, and so does a store that was opened for reading.
    fn finish(mut self) -> Result<()> {
        self.compare()?;
        for number in 1..=LOOMS {
            wait(self.disk().sync(loom(number)))?;
            let one = Some(loom(number));
            assert_eq!(self.memory.verify(one)?, self.disk().verify(one)?);
        }
        assert_eq!(self.memory.verify(None)?, self.disk().verify(None)?);
        assert_eq!(self.memory.verify(None)?, FjallStore::examine(self.folder.path())?);
        let reading = FjallStore::open_reading(self.folder.path())?;
        assert_eq!(reading.looms()?, self.memory.looms()?);
        self.run(&Step::Reopen)?;
        self.compare()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_record_on_disk_answers_as_the_one_in_memory(script in proptest::collection::vec(step(), 1..80)) {
        let mut pair = Pair::new().expect("a new pair");
        for step in &script {
            pair.run(step).expect("a step");
        }
        pair.finish().expect("the end");
    }
}
