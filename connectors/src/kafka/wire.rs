//! How a record of a partition lies in the bytes of a chunk: all of it, so that all of it is part of the checksum by which a
//! re-reading is compared.
//!
//! ```text
//! [offset u64][timestamp ms i64][key length u32][value length u32][headers length u32][headers][key][value]
//! headers  ([name length u32][value length u32][name][value])*
//! ```
//! Numbers are little endian. A length of `u32::MAX` says that there is none: no key, no value (a tombstone), no header value.

use rdkafka::message::{Headers, Message};

const NONE: u32 = u32::MAX;

/// Appends a record and returns where its value lies in `out`.
pub(crate) fn push(message: &impl Message, out: &mut Vec<u8>) -> (usize, usize) {
    let length = |bytes: Option<&[u8]>| {
        bytes.map_or(NONE, |bytes| u32::try_from(bytes.len()).expect("a record of Kafka is below 2 GiB"))
    };
    let (key, value) = (message.key(), message.payload());
    out.extend_from_slice(&message.offset().to_le_bytes());
    out.extend_from_slice(&message.timestamp().to_millis().unwrap_or(i64::MIN).to_le_bytes());
    out.extend_from_slice(&length(key).to_le_bytes());
    out.extend_from_slice(&length(value).to_le_bytes());
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    for header in message.headers().into_iter().flat_map(|headers| headers.iter()) {
        out.extend_from_slice(&length(Some(header.key.as_bytes())).to_le_bytes());
        out.extend_from_slice(&length(header.value).to_le_bytes());
        out.extend_from_slice(header.key.as_bytes());
        out.extend_from_slice(header.value.unwrap_or_default());
    }
    let headers = u32::try_from(out.len() - at - 4).expect("a record of Kafka is below 2 GiB");
    out[at..at + 4].copy_from_slice(&headers.to_le_bytes());
    out.extend_from_slice(key.unwrap_or_default());
    let begin = out.len();
    out.extend_from_slice(value.unwrap_or_default());
    (begin, out.len())
}

/// A record as it lies in a chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub timestamp_ms: Option<i64>,
    pub key: Option<&'a [u8]>,
    /// All headers, for [`headers`].
    pub headers: &'a [u8],
    /// It is no tombstone.
    pub has_value: bool,
}

/// Returns the record that `bytes` are.
pub(crate) fn parse(bytes: &[u8]) -> Option<Parts<'_>> {
    const FIXED: usize = 28;
    let (fixed, rest) = bytes.split_at_checked(FIXED)?;
    let number = |at: usize| u32::from_le_bytes(fixed[at..at + 4].try_into().expect("four bytes"));
    let timestamp = i64::from_le_bytes(fixed[8..16].try_into().expect("eight bytes"));
    let (headers, rest) = rest.split_at_checked(number(24) as usize)?;
    let key = match number(16) {
        NONE => None,
        length => Some(rest.get(..length as usize)?),
    };
    let timestamp_ms = Some(timestamp).filter(|timestamp| *timestamp != i64::MIN);
    Some(Parts { timestamp_ms, key, headers, has_value: number(20) != NONE })
}

/// Returns names and values of headers, in their order.
pub(crate) fn headers(bytes: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (lengths, after) = rest.split_at_checked(8)?;
        let length = |at: usize| u32::from_le_bytes(lengths[at..at + 4].try_into().expect("four bytes"));
        let (name, after) = after.split_at_checked(length(0) as usize)?;
        let size = if length(4) == NONE { 0 } else { length(4) as usize };
        let (value, after) = after.split_at_checked(size)?;
        rest = after;
        Some((name, (length(4) != NONE).then_some(value)))
    })
}

#[cfg(test)]
mod tests {
    use rdkafka::message::{Header, OwnedHeaders, OwnedMessage, Timestamp};

    use super::*;

    fn message(value: Option<&[u8]>, key: Option<&[u8]>, headers: Option<OwnedHeaders>, offset: i64) -> OwnedMessage {
        let (value, key) = (value.map(<[u8]>::to_vec), key.map(<[u8]>::to_vec));
        OwnedMessage::new(value, key, "t".into(), Timestamp::CreateTime(5), 0, offset, headers)
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let headers = OwnedHeaders::new()
            .insert(Header { key: "a", value: Some("1") })
            .insert(Header { key: "b", value: None::<&str> });
        let mut bytes = Vec::new();
        push(&message(None, Some(b"k"), Some(headers), 3), &mut bytes);
        let parts = parse(&bytes).unwrap();
        assert_eq!((parts.timestamp_ms, parts.key, parts.has_value), (Some(5), Some(&b"k"[..]), false));
        let found: Vec<_> = super::headers(parts.headers).collect();
        assert_eq!(found, [(&b"a"[..], Some(&b"1"[..])), (&b"b"[..], None)]);
        for short in 0..28 {
            assert!(parse(&bytes[..short]).is_none());
        }
    }

    #[test]
    fn whatever_differs_in_a_record_differs_in_its_bytes() {
        let header = |value: Option<&str>| Some(OwnedHeaders::new().insert(Header { key: "h", value }));
        let records = [
            message(Some(b"v"), None, None, 0),
            message(Some(b"v"), None, None, 1),
            message(Some(b"v"), Some(b""), None, 0),
            message(Some(b""), Some(b"v"), None, 0),
            message(None, Some(b"v"), None, 0),
            message(Some(b"v"), None, header(Some("x")), 0),
            message(Some(b"v"), None, header(Some("")), 0),
            message(Some(b"v"), None, header(None), 0),
        ];
        let bytes: Vec<Vec<u8>> = records
            .iter()
            .map(|record| {
                let mut out = b"before".to_vec();
                let (begin, end) = push(record, &mut out);
                assert_eq!(&out[begin..end], record.payload().unwrap_or_default());
                assert_eq!(end, out.len());
                out
            })
            .collect();
        for (index, one) in bytes.iter().enumerate() {
            assert!(bytes[index + 1..].iter().all(|other| other != one), "record {index} is like another");
        }
    }
}
