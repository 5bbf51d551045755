//! Checks the files that say which tables belong to the database, before the database may act on them.
//!
//! fjall deletes what its manifests do not name, and a keyspace without one altogether; so they have to be whole
//! before it looks. It keeps a checksum of each manifest and does not compare it; we do. Never writes.

use std::io;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

use crate::adapters::reading;
use crate::domain::limits::MANIFEST_BYTES_MAX;

use super::rows::Space;

/// The number of the manifest, its checksum, the kind of the checksum.
const CURRENT_BYTES: usize = 25;

/// What is wrong with the manifests of a database that holds records.
pub(super) fn damage(database: &Path) -> Vec<String> {
    // Keyspace 0 is fjall's own list of keyspaces; ours follow in the order in which they were made.
    (0..=Space::ALL.len())
        .filter_map(|number| {
            let folder = database.join("keyspaces").join(number.to_string());
            let what = match check(&folder) {
                Ok(None) => return None,
                Ok(Some(what)) => what.to_owned(),
                Err(error) => error.to_string(),
            };
            Some(format!("the list of tables of keyspace {number} is damaged: {what}"))
        })
        .collect()
}

fn check(folder: &Path) -> io::Result<Option<&'static str>> {
    let current = read_bounded(&folder.join("current"), CURRENT_BYTES as u64)?;
    let Some((version, rest)) = current.split_first_chunk::<8>() else {
        return Ok(Some("`current` is cut short"));
    };
    let Some((expected, kind)) = rest.split_first_chunk::<16>() else {
        return Ok(Some("`current` is cut short"));
    };
    if kind != [0] {
        return Ok(Some("`current` has another form"));
    }
    let manifest = read_bounded(&folder.join(format!("v{}", u64::from_le_bytes(*version))), MANIFEST_BYTES_MAX)?;
    Ok((xxh3_128(&manifest) != u128::from_le_bytes(*expected)).then_some("its checksum is another"))
}

fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    reading::bytes(path, bytes_max)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_without_end_is_damage_and_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let current = [&1_u64.to_le_bytes()[..], &[0; 16], &[0]].concat();
        std::fs::write(folder.path().join("current"), current).unwrap();
        std::fs::File::create(folder.path().join("v1")).unwrap().set_len(MANIFEST_BYTES_MAX + 1).unwrap();
        let error = check(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("v1: it has 67108865 bytes, and the limit is 67108864"), "{error}");
    }
}
