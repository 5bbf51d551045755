//! What keepers say to each other of casts, as the wire has it.

use bytes::Bytes;

use super::convert::{cast_head, cast_head_from, shown};
use super::sync::{Unreadable, array, kind, writer};
use super::wire as v1;
use crate::domain::copies::{CastAnswer, CastStep, CopyMessage};
use crate::domain::ids::{EntityId, LoomId, WriterKey};
use crate::domain::limits::{CASTS_SHOWN_MAX, NEAR_UNCOVERED_ENTRIES_MAX};
use crate::domain::loom::{CastChain, CastHead};

pub(super) fn heads_to(heads: &[CastHead]) -> Vec<v1::CastHead> {
    heads.iter().map(cast_head).collect()
}

pub(super) fn heads_from(loom: LoomId, heads: &[v1::CastHead]) -> Result<Vec<CastHead>, Unreadable> {
    if heads.len() > CASTS_SHOWN_MAX {
        return Err(Unreadable::Casts { count: heads.len() });
    }
    heads.iter().map(|head| cast_head_from(loom, head).map_err(Unreadable::Cast)).collect()
}

pub(super) fn step_to(step: CastStep) -> v1::CopyCast {
    let CastStep { loom, entries, heads } = step;
    let entries = entries.into_iter().map(Bytes::from).collect();
    v1::CopyCast { loom: loom.to_string(), entries, heads: heads_to(&heads) }
}

pub(super) fn step_from(it: v1::CopyCast) -> Result<CopyMessage, Unreadable> {
    let loom = it.loom.parse()?;
    if it.heads.len() > NEAR_UNCOVERED_ENTRIES_MAX {
        return Err(Unreadable::Casts { count: it.heads.len() });
    }
    let heads = heads_from(loom, &it.heads)?;
    let entries = it.entries.into_iter().map(Vec::from).collect();
    Ok(CopyMessage::Cast(Box::new(CastStep { loom, entries, heads })))
}

pub(super) fn answer_to((loom, writer, cast): (LoomId, WriterKey, EntityId), answer: CastAnswer) -> v1::CopyCastAnswer {
    use v1::copy_cast_answer::Answer;
    let answer = match answer {
        CastAnswer::Held { at, kind } => Answer::Held(v1::CopyCastHeld {
            place: at.place,
            chain: Bytes::copy_from_slice(&at.chain),
            kind: kind.as_str().to_owned(),
        }),
        CastAnswer::Later => Answer::Later(v1::CopyCastLater {}),
        CastAnswer::Refused { what } => Answer::Refused(what),
    };
    let (loom, cast) = (loom.to_string(), cast.to_string());
    v1::CopyCastAnswer { loom, writer: Bytes::copy_from_slice(writer.as_bytes()), cast, answer: Some(answer) }
}

pub(super) fn answer_from(it: v1::CopyCastAnswer) -> Result<CopyMessage, Unreadable> {
    use v1::copy_cast_answer::Answer;
    let answer = match it.answer.ok_or(Unreadable::Unknown)? {
        Answer::Held(held) => {
            let chain = array("chain", &held.chain)?;
            let at = CastChain { place: held.place, chain };
            CastAnswer::Held { at, kind: kind(held.kind)? }
        }
        Answer::Later(_) => CastAnswer::Later,
        Answer::Refused(what) => CastAnswer::Refused { what: shown(what) },
    };
    let by = writer(&it.writer)?;
    Ok(CopyMessage::CastAnswered { loom: it.loom.parse()?, writer: by, cast: it.cast.parse()?, answer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_casts_are_read_than_a_keeper_may_show() {
        let loom = LoomId::from_parts(1, [1; 16]);
        let (writer, cast) = (WriterKey::from_bytes([2; 32]), EntityId::from_parts(1, [3; 16]));
        let head = CastHead { loom, writer, cast, at: CastChain::default(), signature: [0; 64] };
        for (count, is_read) in [(CASTS_SHOWN_MAX, true), (CASTS_SHOWN_MAX + 1, false)] {
            assert_eq!(heads_from(loom, &heads_to(&vec![head; count])).is_ok(), is_read, "{count}");
        }
        let heads = heads_to(&vec![head; NEAR_UNCOVERED_ENTRIES_MAX + 1]);
        let step = v1::CopyCast { loom: loom.to_string(), entries: Vec::new(), heads };
        assert!(step_from(step).is_err());
    }
}
