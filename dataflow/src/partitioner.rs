//! Partitioners: which lane a row with a key is placed on.
//!
//! Lanes of a topic are its partitions, so this is what other programs see: rows that are to lie beside those of a Java producer, for
//! Kafka Streams to join them, have to be placed as it places its own. Either way the lane is a function of the key and of the number
//! of lanes, and of nothing else: not of workers, ticks or restarts.

/// How the key of a row chooses its lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitioner {
    /// By the shard of the key's columns, see [`crate::key`].
    #[default]
    Shard,
    /// By murmur2 of the bytes that the key is written as, as Kafka's Java client does, and librdkafka as `murmur2`.
    Murmur2,
}

/// Returns the lane of a key among `lanes`, by murmur2.
pub fn murmur2_lane(key: &[u8], lanes: u32) -> u32 {
    // Java has no unsigned numbers: its client clears the sign.
    (murmur2(key) & 0x7fff_ffff) % lanes
}

/// The hash of Kafka's Java client: MurmurHash2 of 32 bits with a seed of its own.
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let mut hash = SEED ^ u32::try_from(bytes.len()).expect("a key is below 4 GiB");
    let words = bytes.chunks_exact(4);
    let rest = words.remainder();
    for word in words {
        let word = u32::from_le_bytes(word.try_into().expect("four bytes")).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (word ^ word >> R).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |last, byte| last << 8 | u32::from(*byte));
        hash = (hash ^ last).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that Kafka's own tests hold its client to (`UtilsTest.testMurmur2`).
    #[test]
    fn hashes_are_those_of_the_java_client() {
        for (key, hash) in [
            (&b"21"[..], -973_932_308_i32),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key) as i32, hash, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn every_lane_is_one_of_those_there_are() {
        for lanes in [1, 2, 7, 1024] {
            let all: std::collections::BTreeSet<u32> =
                (0..20_000_u32).map(|key| murmur2_lane(&key.to_le_bytes(), lanes)).collect();
            assert_eq!(all, (0..lanes).collect());
        }
    }
}
