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

#[cfg(test)]
mod tests {
    use rdkafka::message::{Header, OwnedHeaders, OwnedMessage, Timestamp};

    use super::*;

    fn message(value: Option<&[u8]>, key: Option<&[u8]>, headers: Option<OwnedHeaders>, offset: i64) -> OwnedMessage {
        let (value, key) = (value.map(<[u8]>::to_vec), key.map(<[u8]>::to_vec));
        OwnedMessage::new(value, key, "t".into(), Timestamp::CreateTime(5), 0, offset, headers)
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
