//! Which loom or entity a text on the command line means.
//!
//! An id has 36 digits, so a part of it is enough: its beginning or its end, in letters of either size, as long as nothing
//! else that is recorded begins or ends so. A part that fits several things is refused and lists them; nothing is guessed.

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::domain::ids::{EntityId, LoomId};
use crate::domain::loom::Body;
use crate::ports::{LoomStore, LoomSummary};

use super::exit::CliError;

/// 4 candidates are named when a part of an id fits several: enough to see where they differ.
const NAMED: usize = 4;
/// Fewest digits of a shortened id: 10 for its time and 4 more, so that it is likely to stay unique.
const SHORT_DIGITS: usize = 14;

/// Finds the one thing whose id begins or ends so.
fn pick<T: Copy + Display + Ord>(
    kind: &str,
    named: &str,
    ids: impl IntoIterator<Item = T>,
) -> Result<Option<T>, CliError> {
    let part = named.to_ascii_lowercase();
    let fit = |id: &T| {
        let text = id.to_string();
        text.starts_with(&part) || text.ends_with(&part)
    };
    let fits: BTreeSet<T> = ids.into_iter().filter(fit).collect();
    if fits.len() <= 1 {
        return Ok(fits.first().copied());
    }
    let texts: Vec<String> = fits.iter().take(NAMED).map(ToString::to_string).collect();
    let more = fits.len() - texts.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let what = format!("`{named}` fits {} {kind}: {}{more}", fits.len(), texts.join(", "));
    Err(CliError::usage(anyhow::anyhow!(what)).hint("give more of the id"))
}

/// Finds a loom by its id, by the beginning or the end of it, or the newest.
pub(super) fn find_loom(store: &dyn LoomStore, named: Option<&str>) -> Result<LoomId, CliError> {
    let looms = store.looms().map_err(CliError::fault)?;
    let Some(name) = named else {
        let newest = looms.first().ok_or_else(|| {
            CliError::usage(anyhow::anyhow!("there is no loom yet")).hint("`cantrip-runtime cast` makes one")
        })?;
        return Ok(newest.loom);
    };
    loom_among(&looms, name)?.ok_or_else(|| no_loom(name))
}

fn loom_among(looms: &[LoomSummary], name: &str) -> Result<Option<LoomId>, CliError> {
    pick("looms", name, looms.iter().map(|loom| loom.loom))
}

fn no_loom(name: &str) -> CliError {
    CliError::usage(anyhow::anyhow!("there is no loom `{name}`")).hint("`cantrip-runtime loom ls` lists them")
}

/// Finds an entity of a loom by its id or by the beginning or the end of it; the first of them, its root, by nothing.
pub(super) fn find_entity(
    loom: LoomId,
    named: &str,
    entities: impl IntoIterator<Item = EntityId>,
) -> Result<EntityId, CliError> {
    let mut entities = entities.into_iter();
    let found = if named.is_empty() { entities.next() } else { pick("entities", named, entities)? };
    found.ok_or_else(|| {
        CliError::usage(anyhow::anyhow!("the loom {loom} has no entity `{named}`"))
            .hint("`cantrip-runtime loom show` names them")
    })
}

/// Finds a thread by its entity, by its loom, whose root is meant, or by `LOOM/ENTITY`; each whole or in part.
pub(super) fn find_thread(store: &dyn LoomStore, named: &str) -> Result<(LoomId, EntityId), CliError> {
    if let Ok(entity) = named.parse::<EntityId>()
        && let Some(loom) = store.loom_of(entity).map_err(CliError::fault)?
    {
        return Ok((loom, entity));
    }
    if let Some((loom, entity)) = named.split_once('/') {
        let loom = find_loom(store, Some(loom))?;
        return Ok((loom, find_entity(loom, entity, entities(store, loom)?)?));
    }
    let looms = store.looms().map_err(CliError::fault)?;
    if let Some(loom) = loom_among(&looms, named)? {
        return Ok((loom, find_entity(loom, "", entities(store, loom)?)?));
    }
    // No loom is named so. The roots are in the list of looms; of the others only the looms themselves know.
    let mut all: Vec<(LoomId, EntityId)> = looms.iter().filter_map(|loom| Some((loom.loom, loom.root?))).collect();
    let mut found = pick("entities", named, all.iter().map(|(_, entity)| *entity))?;
    if found.is_none() {
        for loom in &looms {
            all.extend(entities(store, loom.loom)?.into_iter().map(|entity| (loom.loom, entity)));
        }
        found = pick("entities", named, all.iter().map(|(_, entity)| *entity))?;
    }
    all.into_iter().find(|(_, entity)| Some(*entity) == found).ok_or_else(|| no_loom(named))
}

/// The entities of a loom in the order in which they were opened.
fn entities(store: &dyn LoomStore, loom: LoomId) -> Result<Vec<EntityId>, CliError> {
    let entries = store.entries(loom).map_err(CliError::fault)?;
    let opened = entries.iter().filter(|sealed| matches!(sealed.entry.body, Body::Opened(_)));
    Ok(opened.filter_map(|sealed| sealed.entry.entity).collect())
}

/// How many digits of these ids tell them apart, for a table.
pub(super) fn short_digits<T: Display>(ids: impl IntoIterator<Item = T>) -> usize {
    let mut texts: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
    texts.sort_unstable();
    let common = |(one, next): (&String, &String)| one.bytes().zip(next.bytes()).take_while(|(a, b)| a == b).count();
    let longest = texts.iter().zip(texts.iter().skip(1)).map(common).max();
    longest.map_or(SHORT_DIGITS, |longest| SHORT_DIGITS.max(longest + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> [LoomId; 3] {
        [[1; 16], [2; 16], [255; 16]].map(|rest| LoomId::from_parts(1_790_000_000_000, rest))
    }

    fn said(found: Result<Option<LoomId>, CliError>) -> String {
        found.err().map(|error| error.source.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_part_of_an_id_names_what_begins_or_ends_so_in_letters_of_either_size() -> Result<(), CliError> {
        for id in ids() {
            let text = id.to_string();
            let beginning: String = text.chars().take(14).collect();
            let end: String = text.chars().skip(30).collect();
            for part in [&text, &text.to_uppercase(), &beginning, &beginning.to_uppercase(), &end] {
                assert_eq!(pick("looms", part, ids())?, Some(id), "{part}");
            }
        }
        assert_eq!(pick("looms", "no id", ids())?, None);
        Ok(())
    }

    #[test]
    fn a_part_that_fits_several_things_lists_some_of_them() {
        let [one, two, three] = ids();
        let all = said(pick("looms", "01m3", ids()));
        assert_eq!(all, format!("`01m3` fits 3 looms: {one}, {two}, {three}"));
        let many = (0..9).map(|number| LoomId::from_parts(1_790_000_000_000, [number; 16]));
        assert!(said(pick("looms", "01m3", many)).ends_with(" and 5 more"));
    }

    #[test]
    fn a_thing_that_is_met_twice_is_one() -> Result<(), CliError> {
        let [one, ..] = ids();
        assert_eq!(pick("looms", "01", [one, one])?, Some(one));
        Ok(())
    }

    #[test]
    fn shortened_ids_are_still_different() {
        assert_eq!(short_digits(ids()), SHORT_DIGITS);
        let mut near = [7; 16];
        let first = LoomId::from_parts(1, near);
        if let Some(last) = near.last_mut() {
            *last = 8;
        }
        let second = LoomId::from_parts(1, near);
        let digits = short_digits([second, first]);
        let short = |id: LoomId| id.to_string().chars().take(digits).collect::<String>();
        assert!(digits > 30 && short(first) != short(second));
        assert_eq!(short_digits::<LoomId>([]), SHORT_DIGITS);
    }
}
