//! DER, as far as certificates are written in it (RFC 5280): elements, and moments.

/// One element of DER: its tag, its content, what follows it, and all of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) rest: &'a [u8],
    pub(crate) whole: &'a [u8],
}

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;

/// The first element of these bytes. A length has one form, the shortest.
pub(crate) fn element(bytes: &[u8]) -> Option<Element<'_>> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // Four bytes say more than a certificate can have.
        let digits = usize::from(first & 0x7f);
        let (digits, rest) = rest.split_at_checked(digits).filter(|(digits, _)| (1..=4).contains(&digits.len()))?;
        let length =
            digits.iter().try_fold(0_usize, |sum, &byte| sum.checked_mul(256)?.checked_add(usize::from(byte)))?;
        let is_shortest = length >= 0x80 && digits.first().is_some_and(|digit| *digit != 0);
        (is_shortest.then_some(length)?, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    let whole = bytes.get(..bytes.len().checked_sub(rest.len())?)?;
    Some(Element { tag, content, rest, whole })
}

/// The first element, where it has this tag: its content, and what follows it.
pub(crate) fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let it = element(bytes).filter(|it| it.tag == tag)?;
    Some((it.content, it.rest))
}

/// The elements of a sequence's content, nothing beside them.
pub(crate) fn elements(mut content: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut found = Vec::new();
    while !content.is_empty() {
        let one = element(content)?;
        content = one.rest;
        found.push(one);
    }
    Some(found)
}

/// A time of a certificate, in microseconds since 1970; what is before that is 0.
pub(crate) fn moment(tag: u8, text: &[u8]) -> Option<u64> {
    const UTC: u8 = 0x17;
    const GENERALIZED: u8 = 0x18;
    let text = std::str::from_utf8(text).ok()?;
    let digits = match tag {
        UTC if text.starts_with(|c: char| c < '5') => format!("20{text}"),
        UTC => format!("19{text}"),
        GENERALIZED => text.to_owned(),
        _ => return None,
    };
    let digits = digits.strip_suffix('Z').filter(|it| it.len() == 14 && it.bytes().all(|b| b.is_ascii_digit()))?;
    let number = |from: usize, to: usize| digits.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let days = days_since_1970(year, month, day);
    let seconds = days * 86_400 + number(8, 10)? * 3_600 + number(10, 12)? * 60 + number(12, 14)?;
    Some(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000))
}

/// The days from 1970 to a date of the Gregorian calendar. Years begin in March, so that the odd day is the last one.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}
