//! Whether everything in a store is what it should be.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt};
use samovar_registry::Name;
use serde::Serialize;

use super::AT_ONCE;
use super::judgement::Judgement;
use super::kind::Kind;
use super::progress::{Progress, Unit};
use crate::cache::stored::{Pages, load};
use crate::store::{Client, Documents, Entry, Key, StoreError};

/// Findings that are listed; the rest are counted.
const MOST_FINDINGS: usize = 100;

/// How the entries of one kind were found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Verdicts {
    /// As they should be.
    pub sound: u64,
    /// Written by a newer samovar, which this one ignores.
    pub newer: u64,
    /// Not what they should be, and so as good as not there.
    pub damaged: u64,
    /// Sound, but part of what they name is missing.
    pub torn: u64,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The text of the entry's key.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// By kind; every kind is there.
    pub kinds: BTreeMap<Kind, Verdicts>,
    /// The first things that are wrong, as they were met.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub findings_left_out: u64,
}

impl Verification {
    fn new() -> Self {
        Self { kinds: Kind::ALL.map(|kind| (kind, Verdicts::default())).into(), ..Self::default() }
    }

    /// All kinds together.
    pub fn total(&self) -> Verdicts {
        self.kinds.values().fold(Verdicts::default(), |sum, kind| Verdicts {
            sound: sum.sound + kind.sound,
            newer: sum.newer + kind.newer,
            damaged: sum.damaged + kind.damaged,
            torn: sum.torn + kind.torn,
        })
    }

    /// Whether nothing is damaged or torn.
    pub fn is_sound(&self) -> bool {
        let total = self.total();
        total.damaged == 0 && total.torn == 0
    }

    fn add(&mut self, key: &Key, verdict: Verdict) {
        let Some(kind) = Kind::of(key) else { return };
        let verdicts = self.kinds.entry(kind).or_default();
        let problem = match verdict {
            Verdict::Sound => {
                verdicts.sound += 1;
                return;
            }
            Verdict::Newer => {
                verdicts.newer += 1;
                return;
            }
            Verdict::Damaged(problem) => {
                verdicts.damaged += 1;
                problem
            }
            Verdict::Torn(problem) => {
                verdicts.torn += 1;
                problem
            }
        };
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(Finding { key: key.to_string(), problem });
        } else {
            self.findings_left_out += 1;
        }
    }
}

/// What is said of one entry, after all that it refers to was looked at.
enum Verdict {
    Sound,
    Newer,
    Damaged(String),
    Torn(String),
}

/// Reads the whole store, and what its heads and documents refer to. Changes nothing.
pub async fn verify(store: &dyn Client, progress: &Progress) -> Result<Verification, StoreError> {
    progress.begin("verifying", Unit::Entries, store.statistics().await?.entries);
    let mut verification = Verification::new();
    let checks = store.scan().map(|found| async {
        let (key, entry) = found?;
        let verdict = check(store, &key, &entry).await?;
        Ok::<_, StoreError>((key, verdict))
    });
    let mut checks = checks.buffer_unordered(AT_ONCE);
    while let Some((key, verdict)) = checks.try_next().await? {
        verification.add(&key, verdict);
        progress.advance(1);
    }
    Ok(verification)
}

async fn check(store: &dyn Client, key: &Key, entry: &Entry) -> Result<Verdict, StoreError> {
    match (Judgement::of(key, entry), key) {
        (Judgement::Damaged(problem), _) => Ok(Verdict::Damaged(problem)),
        (Judgement::Newer, _) => Ok(Verdict::Newer),
        (Judgement::Begins(more), Key::Document(digest)) => {
            let whole = Documents(store).get(digest).await?.is_some();
            let problem =
                || format!("it and its {more} further parts do not make up what its digest promises");
            Ok(if whole { Verdict::Sound } else { Verdict::Damaged(problem()) })
        }
        (Judgement::Sound, Key::Head(name)) => check_repository(store, name).await,
        (Judgement::Sound | Judgement::Begins(_), _) => Ok(Verdict::Sound),
    }
}

/// Whether all is there that a head names, and is what the head says. The head is read again, with what it names now:
/// a server may be at work on it.
async fn check_repository(store: &dyn Client, name: &Name) -> Result<Verdict, StoreError> {
    let loaded = load(store, name, Pages::All).await?;
    let Some(head) = &loaded.head else {
        // Removed meanwhile.
        return Ok(Verdict::Sound);
    };
    if loaded.missing_pages > 0 {
        let (missing, named) = (loaded.missing_pages, head.pages.len());
        return Ok(Verdict::Torn(format!("{missing} of its {named} pages are missing or damaged")));
    }
    let (promised, found) = (head.counts.total(), loaded.tags.len());
    if promised != found {
        return Ok(Verdict::Damaged(format!(
            "it says that there are {promised} tags, its pages have {found}"
        )));
    }
    let unsettled = loaded.tags.iter().filter(|(_, record, _)| !record.is_settled()).count();
    if head.complete && unsettled > 0 {
        return Ok(Verdict::Damaged(format!(
            "it says that it is complete, but {unsettled} tags are not settled"
        )));
    }
    Ok(Verdict::Sound)
}
