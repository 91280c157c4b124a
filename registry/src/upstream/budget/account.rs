//! What one identity may still ask of a host within the quota that the host announced for it.
//!
//! - **Never over.** Between two answers what was sent is counted down, what is under way included; an announcement counts
//!   for what the host had seen when it was made.
//! - **The end of the window** is not announced. The window is taken to begin when an announcement first shows it, and anew
//!   when much of the quota comes back at once. Whenever anything may have come back, a window of the host may have begun:
//!   only when one has passed since then, it is certain that something is left, and one request finds out how much. So it is
//!   never sooner than the host's, whether that slides or not. Of a window of which nothing is used there is no end: the next
//!   request that counts begins another.
//! - **The schedule uses half of the quota as fast as it likes**; the rest, but for the reserve, is spread evenly over what is
//!   left of the window. The reserve is for those who asked.
//! - **Nothing is known yet** where a quota is known to be counted: one request at a time, until an answer tells.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::Urgency;
use super::super::limits::{self, LONGEST_PAUSE, Quota};
use super::gate::Place;
use super::hold::Hold;

/// Which requests count against a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Counting {
    /// GETs of manifests, and only those, as on Docker Hub.
    ManifestGets,
    /// Every request to the registry, where it announces a quota.
    Everything,
}

/// Ends of windows that differ by no more are of the same window: they are kept to the second, by clocks that differ.
const SAME_WINDOW: Duration = Duration::from_mins(1);

/// One identity at one host.
#[derive(Debug)]
pub(super) struct Account {
    /// Who waits for the quota.
    pub(super) queue: BTreeMap<Place, Arc<Notify>>,
    /// Whether nothing is known of the quota yet, or no longer: then one request at a time finds out.
    is_unknown: bool,
    announced: Option<Announced>,
    /// Held back by a limit that says nothing of a quota.
    held: Hold,
    under_way: u64,
    sent: u64,
    completed: u64,
    /// When a request of the schedule was sent last.
    last_background: Instant,
    /// The last turn that was given to a request which would have waited too long.
    promised: Instant,
    used_at: Instant,
}

#[derive(Debug)]
struct Announced {
    quota: Quota,
    /// How many requests may still be sent, counting those under way as sent.
    left: u64,
    /// When the window ends, if anything of it was used.
    ends: Option<Instant>,
    /// When it has ended for certain.
    surely_ends: Instant,
    /// Whether the host has yet to show that the window has begun.
    is_tentative: bool,
    /// How many of those that were sent the announcement surely counts.
    counted: u64,
}

/// A request that counts, as it was when it was sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    /// Whether it counts itself.
    pub(super) counts: bool,
    /// How many that count had ended by then: the host has seen those when it sees this one.
    pub(super) completed: u64,
}

/// Whether a request may go by the quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admittance {
    Now,
    /// When one that is under way has ended.
    AfterOther,
    /// Not before then.
    At(Instant),
}

impl Account {
    pub(super) fn new(is_unknown: bool, now: Instant) -> Self {
        Self {
            queue: BTreeMap::new(),
            is_unknown,
            announced: None,
            held: Hold::default(),
            under_way: 0,
            sent: 0,
            completed: 0,
            last_background: now,
            promised: now,
            used_at: now,
        }
    }

    /// What was announced last, with what is left of it now, and when the window ends.
    pub(super) fn quota(&self) -> Option<(Quota, Option<Instant>)> {
        let announced = self.announced.as_ref()?;
        Some((Quota { remaining: announced.left, ..announced.quota.clone() }, announced.ends))
    }

    /// When the window has ended for certain, if anything of it was used.
    pub(super) fn surely_ends(&self) -> Option<Instant> {
        let announced = self.announced.as_ref()?;
        announced.ends.map(|ends| ends.max(announced.surely_ends))
    }

    /// Whether requests are counted against a quota that is known to have an end.
    pub(super) fn is_limited(&self) -> bool {
        self.announced.as_ref().is_some_and(|announced| announced.quota.window.is_some())
    }

    /// Whether nothing waits, is under way or would be forgotten with it.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let is_remembered =
            self.announced.as_ref().is_some_and(|announced| announced.ends.is_some_and(|ends| ends > now));
        self.is_unused() && !is_remembered && self.held.until().is_none()
    }

    /// Whether nothing waits or is under way.
    pub(super) fn is_unused(&self) -> bool {
        self.queue.is_empty() && self.under_way == 0
    }

    pub(super) fn used_at(&self) -> Instant {
        self.used_at
    }

    /// Until when everything that counts is held back, and nobody knows for whom better.
    pub(super) fn exhausted_until(&self, now: Instant) -> Option<Instant> {
        let held = self.held.until().filter(|until| *until > now);
        let used_up = self.announced.as_ref().filter(|announced| announced.left == 0 && !self.is_unknown);
        held.max(used_up.and_then(|announced| announced.ends).filter(|ends| *ends > now))
    }

    /// Whether nothing is known of what is left.
    pub(super) fn is_unknown(&self) -> bool {
        self.is_unknown
    }

    /// Whether what is left is kept for those who asked: no more than the `reserve`, a share of the quota.
    pub(super) fn is_reserved(&self, reserve: f64) -> bool {
        self.announced.as_ref().is_some_and(|announced| {
            announced.quota.window.is_some() && announced.left <= announced.reserved(reserve)
        })
    }

    /// Brings the account up to `now`: ends what is over.
    pub(super) fn settle(&mut self, now: Instant) {
        self.held.end(now);
        if let Some(announced) = &mut self.announced
            && announced.ends.is_some_and(|ends| ends <= now)
        {
            if announced.surely_ends > now {
                announced.ends = Some(announced.surely_ends);
            } else {
                // What is left now, the next answer tells.
                announced.ends = None;
                self.is_unknown = true;
            }
        }
    }

    /// Whether a request may go. `reserve` is the share that is kept for those who asked.
    pub(super) fn admittance(&self, urgency: Urgency, reserve: f64, now: Instant) -> Admittance {
        if let Some(until) = self.held.until().filter(|until| *until > now) {
            return Admittance::At(until);
        }
        if self.is_unknown {
            return if self.under_way > 0 { Admittance::AfterOther } else { Admittance::Now };
        }
        let Some(announced) = self.announced.as_ref().filter(|announced| announced.quota.window.is_some())
        else {
            return Admittance::Now;
        };
        let Some(ends) = announced.ends else { return Admittance::Now };
        let at = announced.turn(urgency, reserve, self.last_background, ends);
        if at <= now {
            Admittance::Now
        } else if announced.left == 0 && self.under_way > 0 {
            // There may be more than is certain.
            Admittance::AfterOther
        } else {
            Admittance::At(at)
        }
    }

    /// When a request that would have to wait until `opens` is to come back: those of the schedule one by one, at the pace
    /// that the quota allows, so that they do not come all at once.
    pub(super) fn promise(
        &mut self,
        urgency: Urgency,
        reserve: f64,
        opens: Instant,
        now: Instant,
    ) -> Duration {
        if urgency == Urgency::Background {
            let promised = self.promised.max(now);
            let pace = self.announced.as_ref().map(|announced| announced.pace(reserve, promised));
            let turn = opens.max(promised + pace.unwrap_or_default());
            self.promised = turn.min(now + LONGEST_PAUSE);
            return self.promised - now;
        }
        (opens - now).min(LONGEST_PAUSE)
    }

    /// A request that counts is sent.
    pub(super) fn send(&mut self, urgency: Urgency, now: Instant) {
        self.under_way += 1;
        self.sent += 1;
        if urgency == Urgency::Background {
            self.last_background = now;
        }
        if let Some(announced) = &mut self.announced {
            announced.left = announced.left.saturating_sub(1);
            if announced.ends.is_none()
                && let Some(window) = announced.quota.window
            {
                announced.ends = Some(now + window);
                announced.surely_ends = now + window;
                announced.is_tentative = true;
            }
        }
    }

    /// What to remember of a request that is sent.
    pub(super) fn mark(&mut self, counts: bool, now: Instant) -> Sent {
        self.used_at = now;
        Sent { counts, completed: self.completed }
    }

    /// By whom the registry counts, where it said so.
    pub(super) fn source(&self) -> Option<&Arc<str>> {
        self.announced.as_ref()?.quota.source.as_ref()
    }

    /// Another identity that is counted by the same source has this much left.
    pub(super) fn hear(&mut self, left: u64) {
        if let Some(announced) = &mut self.announced {
            announced.left = announced.left.min(left);
        }
    }

    /// A request that counts has ended.
    pub(super) fn done(&mut self) {
        self.under_way -= 1;
        self.completed += 1;
    }

    /// A request that counts, of this admission, was answered without a pause being asked for.
    pub(super) fn accepted(&mut self, admission: u64) {
        self.held.accepted(admission);
    }

    /// The answer to a request announced a quota.
    ///
    /// Beside those that are known to count, so many `others` that may count are under way.
    pub(super) fn announce(&mut self, quota: Quota, sent: Sent, others: usize, now: Instant) {
        let counted = sent.completed + u64::from(sent.counts);
        let not_counted = self.sent.saturating_sub(counted).saturating_add(others as u64);
        let left = quota.remaining.saturating_sub(not_counted);
        let is_used = quota.remaining < quota.limit || not_counted > 0;
        let window = quota.window.unwrap_or_default();
        let same =
            self.announced.as_ref().filter(|before| !before.is_tentative && !before.begins_anew(&quota));
        let ends = same.and_then(|before| before.ends);
        let ends = ends.or_else(|| (!window.is_zero()).then(|| now + window)).filter(|_| is_used);
        let surely =
            same.filter(|before| !before.may_have_grown(&quota, self.sent)).map(|before| before.surely_ends);
        let surely_ends = surely.unwrap_or(now + window);
        if same.is_none() {
            // Turns were given by a quota that is no more.
            self.promised = now;
        }
        self.announced = Some(Announced { quota, left, ends, surely_ends, is_tentative: false, counted });
        self.is_unknown = false;
    }

    /// The answer to a request that counts announced no quota: there is none.
    pub(super) fn announce_none(&mut self) {
        if self.is_unknown {
            self.is_unknown = false;
            self.announced = None;
            self.promised = self.used_at;
        }
    }

    /// The host says that the quota is used up, and perhaps for how long. For how long it is left alone by those who count.
    pub(super) fn use_up(
        &mut self,
        asked: Option<Duration>,
        admission: u64,
        admissions: u64,
        now: Instant,
    ) -> Duration {
        if let Some(announced) = &mut self.announced
            && let Some(window) = announced.quota.window
        {
            announced.left = 0;
            let asked = asked.map(|asked| now + limits::pause(Some(asked), 1));
            let ends = asked.or(announced.ends.filter(|ends| *ends > now)).unwrap_or(now + window);
            announced.ends = Some(ends);
            announced.surely_ends = ends;
            announced.is_tentative = false;
            self.is_unknown = false;
            return ends - now;
        }
        self.held.hold(admission, admissions, asked, now) - now
    }

    /// Goes on with what an earlier life, or another replica, knew, unless what we know is of a later window, or of the same
    /// with less left.
    pub(super) fn restore(&mut self, quota: Quota, ends: Instant) {
        let left = quota.remaining.saturating_sub(self.under_way);
        let known = self.announced.as_ref().and_then(|known| Some((known.ends?, known.left)));
        let is_news = known.is_none_or(|(known_ends, known_left)| {
            let is_same = known_ends.max(ends) - known_ends.min(ends) <= SAME_WINDOW;
            if is_same { left < known_left } else { ends > known_ends }
        });
        if is_news {
            let (surely_ends, counted) = (ends, self.completed);
            self.announced =
                Some(Announced { left, ends: Some(ends), quota, surely_ends, is_tentative: false, counted });
            self.is_unknown = false;
        }
    }
}

impl Announced {
    /// Whether the announcement is of another window than the one before: much has come back at once, or it is another quota.
    fn begins_anew(&self, quota: &Quota) -> bool {
        let is_other = (self.quota.limit, self.quota.window) != (quota.limit, quota.window);
        is_other || quota.remaining > self.quota.remaining.saturating_add(quota.limit / 2)
    }

    /// Whether anything may have come back since, given how many were `sent` until now.
    fn may_have_grown(&self, quota: &Quota, sent: u64) -> bool {
        let not_counted = sent.saturating_sub(self.counted);
        quota.remaining.saturating_add(not_counted) > self.quota.remaining
    }

    fn reserved(&self, reserve: f64) -> u64 {
        share_of(self.quota.limit, reserve)
    }

    /// When the next request may go.
    fn turn(&self, urgency: Urgency, reserve: f64, last_background: Instant, ends: Instant) -> Instant {
        let reserved = if urgency == Urgency::Asked { 0 } else { self.reserved(reserve) };
        let usable = self.left.saturating_sub(reserved);
        if usable == 0 {
            return ends;
        }
        if urgency == Urgency::Asked || self.left > self.quota.limit / 2 {
            return last_background;
        }
        let rest = ends.saturating_duration_since(last_background);
        last_background + rest.div_f64(real(usable) + 1.0)
    }

    /// The time between two requests of the schedule at `then`: over a whole window, or, if it is longer, over what is left
    /// of this one.
    fn pace(&self, reserve: f64, then: Instant) -> Duration {
        let reserved = self.reserved(reserve);
        let usable = self.quota.limit.saturating_sub(reserved).max(1);
        let usual = self.quota.window.unwrap_or_default().div_f64(real(usable));
        let rest = self.ends.map_or(Duration::ZERO, |ends| ends.saturating_duration_since(then));
        let left = self.left.saturating_sub(reserved);
        if left == 0 { usual } else { usual.max(rest.div_f64(real(left) + 1.0)) }
    }
}

/// A part of a number, rounded up.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count is one")]
fn share_of(whole: u64, share: f64) -> u64 {
    (real(whole) * share.clamp(0.0, 1.0)).ceil() as u64
}

#[expect(clippy::cast_precision_loss, reason = "quotas are small, and their shares need not be exact")]
fn real(count: u64) -> f64 {
    count as f64
}
