//! The memory of a code medium, recorded and had again: a fork or a resumption that has an image runs only the code behind it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::ids::{BlobId, EntryId};
use crate::domain::limits::{IMAGES_BYTES_MAX, SNAPSHOT_CHAIN_MAX, SNAPSHOT_PAGES_MAX};
use crate::domain::loom::{Blob, Body, PageRef};
use crate::domain::medium::{Image, PAGE_BYTES};
use crate::ports::{LoomStore, StoreError};

/// A snapshot that was recorded.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    /// The entry.
    pub(super) entry: EntryId,
    pub(super) image: Arc<Image>,
    /// How many turns its entity had.
    pub(super) turns: u64,
    /// How many snapshots have to be read to have it from the record.
    chain: u32,
}

/// The images that were taken or read lately, the newest last.
#[derive(Debug, Default)]
pub(super) struct Images(Mutex<VecDeque<(EntryId, Arc<Image>, u32)>>);

fn bytes(image: &Image) -> usize {
    image.pages.len().saturating_mul(PAGE_BYTES)
}

impl Images {
    pub(super) fn keep(&self, taken: &Taken) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(entry, ..)| *entry != taken.entry);
        kept.push_back((taken.entry, Arc::clone(&taken.image), taken.chain));
        let mut sum: usize = kept.iter().map(|(_, image, _)| bytes(image)).sum();
        while sum > IMAGES_BYTES_MAX {
            let Some((_, image, _)) = kept.pop_front() else { return };
            sum = sum.saturating_sub(bytes(&image));
        }
    }

    fn get(&self, entry: EntryId) -> Option<(Arc<Image>, u32)> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|(known, ..)| *known == entry);
        found.map(|(_, image, chain)| (Arc::clone(image), *chain))
    }

    /// The image of a snapshot, from memory or from the record; nothing where the record does not have all of it.
    pub(super) fn load(&self, store: &dyn LoomStore, entry: EntryId, turns: u64) -> Result<Option<Taken>, StoreError> {
        if let Some((image, chain)) = self.get(entry) {
            return Ok(Some(Taken { entry, image, turns, chain }));
        }
        let Some((image, chain)) = read(store, entry)? else { return Ok(None) };
        let taken = Taken { entry, image: Arc::new(image), turns, chain };
        self.keep(&taken);
        Ok(Some(taken))
    }
}

fn read(store: &dyn LoomStore, newest: EntryId) -> Result<Option<(Image, u32)>, StoreError> {
    let mut image: Option<Image> = None;
    let mut next = Some(newest);
    let mut chain = 0;
    while let Some(entry) = next {
        chain += 1;
        let Some(sealed) = store.entry(entry)?.filter(|_| chain <= SNAPSHOT_CHAIN_MAX) else { return Ok(None) };
        let Body::Snapshot { medium, memory_bytes, base, pages } = sealed.entry.body else { return Ok(None) };
        let image = image.get_or_insert_with(|| Image { medium: medium.clone(), memory_bytes, pages: BTreeMap::new() });
        if image.medium != medium {
            return Ok(None);
        }
        for PageRef(place, id) in pages {
            // The newer ones hold.
            if image.pages.contains_key(&place) {
                continue;
            }
            let Some(page) = store.blob(id)?.filter(|page| page.len() == PAGE_BYTES) else { return Ok(None) };
            image.pages.insert(place, page.into());
        }
        next = base;
    }
    Ok(image.map(|image| (image, chain)))
}

/// The entry of an image, with the pages that the one before does not have.
pub(super) fn entry(image: &Image, before: Option<&Taken>) -> Option<(Body, Vec<Blob>, u32)> {
    let base = before.filter(|before| before.chain < SNAPSHOT_CHAIN_MAX && before.image.medium == image.medium);
    let known = |place: &u32, page: &Arc<[u8]>| {
        base.and_then(|base| base.image.pages.get(place))
            .is_some_and(|before| Arc::ptr_eq(before, page) || before == page)
    };
    let new: Vec<(u32, &Arc<[u8]>)> =
        image.pages.iter().filter(|(place, page)| !known(place, page)).map(|(place, page)| (*place, page)).collect();
    if new.len() > SNAPSHOT_PAGES_MAX {
        tracing::warn!(
            pages = new.len(),
            limit = SNAPSHOT_PAGES_MAX,
            "a medium has more memory than a snapshot holds: none is taken"
        );
        return None;
    }
    let blobs: Vec<Blob> = new.iter().map(|(_, page)| Blob { id: BlobId::of(page), bytes: page.to_vec() }).collect();
    let pages = new.iter().zip(&blobs).map(|((place, _), blob)| PageRef(*place, blob.id)).collect();
    let body = Body::Snapshot {
        medium: image.medium.clone(),
        memory_bytes: image.memory_bytes,
        base: base.map(|base| base.entry),
        pages,
    };
    Some((body, blobs, base.map_or(1, |base| base.chain + 1)))
}

/// What was recorded, as it is gone on from.
pub(super) fn taken(entry: EntryId, image: Image, turns: u64, chain: u32) -> Taken {
    Taken { entry, image: Arc::new(image), turns, chain }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::store::MemoryStore;
    use crate::domain::ids::{EntityId, LoomId, WriterKey};
    use crate::domain::loom::{Entry, Sealed};

    fn image(pages: u32) -> Image {
        let page: Arc<[u8]> = vec![1; PAGE_BYTES].into();
        let pages = (0..pages).map(|place| (place, Arc::clone(&page))).collect();
        Image { medium: "m".to_owned(), memory_bytes: 1 << 30, pages }
    }

    fn snapshot(store: &dyn LoomStore, base: Option<EntryId>) -> EntryId {
        let (loom, writer) = (LoomId::from_parts(1, [1; 16]), store.writer());
        let sequence = store.head(loom).unwrap().sequence + 1;
        let body = Body::Snapshot { medium: "m".to_owned(), memory_bytes: 1 << 16, base, pages: Vec::new() };
        let entity = EntityId::from_parts(1, [1; 16]);
        let entry = Entry::new(loom, (writer, sequence), 1, entity, base, body);
        let sealed = Sealed::new(entry, Vec::new()).unwrap();
        let id = sealed.id;
        store.append(sealed).unwrap();
        id
    }

    #[test]
    fn an_image_is_not_put_together_from_snapshots_without_end() {
        let store = MemoryStore::new(WriterKey::from_bytes([1; 32]));
        let mut newest = None;
        let mut all = Vec::new();
        for _ in 0..=SNAPSHOT_CHAIN_MAX {
            newest = Some(snapshot(&*store, newest));
            all.extend(newest);
        }
        let load = |entry: EntryId| Images::default().load(&*store, entry, 1).unwrap();
        assert!(all.iter().take(32).all(|entry| load(*entry).is_some()));
        assert!(load(all.pop().unwrap()).is_none());
    }

    #[test]
    fn a_memory_with_more_pages_than_an_entry_can_name_is_not_recorded() {
        assert!(entry(&image(16_001), None).is_none());
        assert!(entry(&image(10), None).is_some());
    }

    #[test]
    fn images_at_hand_are_bounded_and_the_oldest_goes() {
        let images = Images::default();
        let taken =
            |number: u8| Taken { entry: EntryId::of(&[number]), image: Arc::new(image(20_000)), turns: 1, chain: 1 };
        images.keep(&taken(1));
        assert!(images.get(EntryId::of(&[1])).is_some());
        images.keep(&taken(2));
        assert!(images.get(EntryId::of(&[1])).is_none() && images.get(EntryId::of(&[2])).is_some());
    }
}
