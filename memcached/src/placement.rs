//! Which server keeps which key.
//!
//! Rendezvous hashing: every server has a score for every key, made from both, and the highest one keeps it. So the order
//! in which servers are named does not matter, and where a server comes or goes only its own keys move: about one in `n`.
//! The hash is written down here because all replicas, whatever they were built with, must agree on it for ever.

/// 64-bit FNV-1a: its offset basis and prime.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// What a server's identity contributes to its scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(u64);

impl Seed {
    pub(crate) fn of(identity: &str) -> Self {
        Self(mix(fnv_1a(identity.as_bytes())))
    }
}

/// The position of the server that keeps `key`; `None` where there are no servers.
pub(crate) fn place(key: &[u8], seeds: impl IntoIterator<Item = Seed>) -> Option<usize> {
    let key = fnv_1a(key);
    let scores = seeds.into_iter().map(|seed| mix(key ^ seed.0));
    scores.enumerate().max_by_key(|(_, score)| *score).map(|(position, _)| position)
}

fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

/// The finalizer of `SplitMix64`: every bit of the input changes about half of the output's.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: usize = 4000;

    fn server<'a>(key: &str, servers: &[&'a str]) -> &'a str {
        let place = place(key.as_bytes(), servers.iter().map(|identity| Seed::of(identity)));
        servers[place.expect("there are servers")]
    }

    #[test]
    fn placement_never_changes() {
        assert_eq!(fnv_1a(b""), FNV_OFFSET);
        assert_eq!(fnv_1a(b"foobar"), 0x8594_4171_f739_67e8);
        let servers = ["cache-0.cache:11211", "cache-1.cache:11211", "cache-2.cache:11211"];
        let places = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].map(|key| server(key, &servers));
        // Computed by another program.
        assert_eq!(places, [1, 0, 0, 0, 0, 1, 0, 2, 2, 2].map(|number: usize| servers[number]));
        assert_eq!(place(b"a", []), None);
    }

    proptest! {
        #[test]
        fn a_new_server_takes_its_share_and_nothing_else_moves(count in 1_usize..9, salt: u32) {
            let names: Vec<String> = (0..=count).map(|number| format!("10.{salt}.0.{number}:11211")).collect();
            let after: Vec<&str> = names.iter().map(String::as_str).collect();
            let (new, before) = after.split_last().expect("there is one at least");
            let mut moved = 0;
            for number in 0..KEYS {
                let key = format!("s1|page|docker.io/library/{salt}|{number}");
                let (old_place, new_place) = (server(&key, before), server(&key, &after));
                if old_place != new_place {
                    prop_assert_eq!(new_place, *new);
                    moved += 1;
                }
            }
            let share = KEYS / after.len();
            prop_assert!((share * 3 / 4..=share * 5 / 4).contains(&moved), "{} of {} moved", moved, KEYS);
        }

        #[test]
        fn the_order_of_servers_does_not_matter(key: String, rotation in 0_usize..5) {
            let servers = ["a:1", "b:1", "c:1", "d:1", "e:1"];
            let mut rotated = servers;
            rotated.rotate_left(rotation);
            prop_assert_eq!(server(&key, &servers), server(&key, &rotated));
        }
    }
}
