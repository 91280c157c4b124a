//! What a repository needs, and when.

use jiff::Timestamp;

/// What a repository needs, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// What a person, a webhook or a reader that missed something asked for.
    Asked,
    /// Tags that were never looked at, and the list of a repository that never was.
    New,
    /// Tags that are to be looked at again.
    Due,
    /// The list.
    Background,
}

impl Class {
    /// All of them, for metrics that show every label value from the start.
    pub const ALL: [Self; 4] = [Self::Asked, Self::New, Self::Due, Self::Background];

    /// The class as metrics and the API say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::New => "new",
            Self::Due => "due",
            Self::Background => "background",
        }
    }

    /// Its position in [`Class::ALL`].
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// When a repository needs what: for each class, the earliest time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) struct Needs([Option<Timestamp>; Class::ALL.len()]);

impl Needs {
    /// One thing, at this time.
    pub(in super::super) fn at(class: Class, at: Timestamp) -> Self {
        Self::default().with(class, Some(at))
    }

    /// The same, and another thing, if it is needed.
    #[must_use]
    pub(in super::super) fn with(mut self, class: Class, at: Option<Timestamp>) -> Self {
        let needed = &mut self.0[class.index()];
        *needed = earlier(*needed, at);
        self
    }

    /// What either needs.
    #[must_use]
    pub(in super::super) fn and(self, other: Self) -> Self {
        Class::ALL.into_iter().fold(self, |both, class| both.with(class, other.of(class)))
    }

    /// The same, but nothing of it before `time`.
    #[must_use]
    pub(in super::super) fn not_before(self, time: Timestamp) -> Self {
        Self(self.0.map(|at| at.map(|at| at.max(time))))
    }

    /// When anything is needed; `None`: never.
    pub(in super::super) fn earliest(&self) -> Option<Timestamp> {
        self.0.into_iter().flatten().min()
    }

    /// When something of this class is needed.
    pub(in super::super) fn of(&self, class: Class) -> Option<Timestamp> {
        self.0[class.index()]
    }

    /// Everything together, at this time and no other, as urgent as the most urgent of what is needed by then.
    #[must_use]
    pub(in super::super) fn only_at(self, at: Timestamp) -> Self {
        Self::at(self.due(at).unwrap_or(Class::Background), at)
    }

    /// The most urgent class of which something is needed by now.
    pub(super) fn due(&self, now: Timestamp) -> Option<Class> {
        self.iter().find(|(_, at)| *at <= now).map(|(class, _)| class)
    }

    /// Everything that is needed, the most urgent first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Class, Timestamp)> + use<> {
        Class::ALL.into_iter().zip(self.0).filter_map(|(class, at)| Some((class, at?)))
    }
}

fn earlier(one: Option<Timestamp>, another: Option<Timestamp>) -> Option<Timestamp> {
    match (one, another) {
        (Some(one), Some(another)) => Some(one.min(another)),
        (one, another) => one.or(another),
    }
}
