//! Which servers the pool has, as lookups follow one another.
//!
//! A name service may leave a server out for a while: because it restarts, or is not ready for a moment, or because one name
//! server lags behind another. Every time, its keys would move to other servers and back, and replicas would disagree about
//! where the leases are. So a server stays, at its last address, until it has not been named for some minutes.

use std::time::Duration;

use tokio::time::Instant;

use crate::discovery::{MOST_SERVERS, Member};

/// The servers that were named lately.
#[derive(Debug)]
pub(crate) struct Roster {
    places: Vec<Place>,
    /// How long a server stays that is not named.
    patience: Duration,
}

#[derive(Debug)]
struct Place {
    member: Member,
    /// Since when it has not been named; `None` while it is.
    missing_since: Option<Instant>,
}

impl Roster {
    pub(crate) fn new(members: Vec<Member>, patience: Duration) -> Self {
        let places = members.into_iter().map(|member| Place { member, missing_since: None }).collect();
        Self { places, patience }
    }

    /// The servers, in the order of what they are called.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.places.iter().map(|place| place.member.clone()).collect()
    }

    /// Whether there is one whose address is not known.
    pub(crate) fn lacks_addresses(&self) -> bool {
        self.places.iter().any(|place| place.member.address.is_none())
    }

    /// Takes over what a lookup has found `now`. Servers that were not found stay for a while, where there is room.
    pub(crate) fn update(&mut self, found: Vec<Member>, now: Instant) {
        let before = std::mem::replace(self, Self::new(found, self.patience));
        for place in before.places {
            let is_named = self.places.iter().any(|named| named.member.identity == place.member.identity);
            let missing_since = place.missing_since.unwrap_or(now);
            if is_named
                || now.duration_since(missing_since) >= self.patience
                || self.places.len() == MOST_SERVERS
            {
                continue;
            }
            self.places.push(Place { member: place.member, missing_since: Some(missing_since) });
        }
        self.places.sort_by(|one, other| one.member.cmp(&other.member));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn member(number: usize) -> Member {
        let address = format!("10.0.{}.{}:1", number / 256, number % 256);
        Member { identity: address.clone(), address: Some(address.parse().unwrap()) }
    }

    fn members(numbers: impl IntoIterator<Item = usize>) -> Vec<Member> {
        let mut members: Vec<Member> = numbers.into_iter().map(member).collect();
        members.sort();
        members
    }

    #[test]
    fn a_server_that_is_left_out_stays_for_a_while() {
        let start = Instant::now();
        let mut roster = Roster::new(members([1, 2, 3]), 5 * MINUTE);
        let mut after = |minutes: u32, found: &[usize]| {
            roster.update(members(found.iter().copied()), start + minutes * MINUTE);
            roster.members()
        };
        assert_eq!(after(0, &[1, 3]), members([1, 2, 3]));
        assert_eq!(after(4, &[1, 3]), members([1, 2, 3]));
        assert_eq!(after(4, &[1, 2, 3]), members([1, 2, 3]), "it is named again");
        assert_eq!(after(6, &[3, 4]), members([1, 2, 3, 4]));
        assert_eq!(after(10, &[2, 4]), members([1, 2, 3, 4]));
        assert_eq!(after(11, &[2, 4]), members([2, 3, 4]), "five minutes after it was last named");
        assert_eq!(after(15, &[2, 4]), members([2, 4]));
    }

    #[test]
    fn a_server_that_moves_has_its_new_address_and_no_other() {
        let at = |address: Option<&str>| Member {
            identity: "cache-0:1".into(),
            address: address.map(|address| address.parse().unwrap()),
        };
        let mut roster = Roster::new(vec![at(None)], MINUTE);
        assert!(roster.lacks_addresses());
        for address in ["10.0.0.1:1", "10.0.0.2:1"] {
            roster.update(vec![at(Some(address))], Instant::now());
            assert_eq!(roster.members(), [at(Some(address))]);
            assert!(!roster.lacks_addresses());
        }
    }

    #[test]
    fn what_was_found_goes_before_what_is_kept() {
        let mut roster = Roster::new(members(0..MOST_SERVERS), MINUTE);
        roster.update(members(10..MOST_SERVERS + 5), Instant::now());
        let kept = roster.members();
        assert_eq!(kept.len(), MOST_SERVERS);
        assert!(members(10..MOST_SERVERS + 5).iter().all(|found| kept.contains(found)));
    }
}
