//! How long items stay.

use std::time::Duration;

/// Times above this one are taken for never, in seconds: servers read dates as 32 bits with a sign, which end in 2038.
const LONGEST_EXPIRY_SECONDS: u64 = 365 * 24 * 60 * 60;

/// When a server forgets an item, if it does not have to sooner for want of room.
///
/// Servers count whole seconds by a clock that ticks once a second: an item may go up to a second before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Only for want of room.
    Never,
    /// After this time, rounded up to a whole second, at least one; above a year, never. Times above 30 days are sent as a
    /// date, so that they depend on the server's clock as well as ours.
    After(Duration),
}

impl Expiry {
    /// In whole seconds; `None` for never.
    pub(crate) fn seconds(self) -> Option<u32> {
        let Self::After(duration) = self else { return None };
        let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0)).max(1);
        if seconds > LONGEST_EXPIRY_SECONDS {
            return None;
        }
        u32::try_from(seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_rounded_up() {
        let after = |milliseconds| Expiry::After(Duration::from_millis(milliseconds)).seconds();
        assert_eq!(Expiry::Never.seconds(), None);
        assert_eq!([after(0), after(1), after(1000), after(1001)], [Some(1), Some(1), Some(1), Some(2)]);
        let year = Duration::from_secs(LONGEST_EXPIRY_SECONDS);
        assert_eq!(Expiry::After(year).seconds(), Some(31_536_000));
        assert_eq!(Expiry::After(year + Duration::from_nanos(1)).seconds(), None);
        assert_eq!(Expiry::After(Duration::MAX).seconds(), None);
    }
}
