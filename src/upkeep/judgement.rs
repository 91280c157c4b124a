//! What an entry is worth, by itself.

use serde::de::DeserializeOwned;

use crate::cache::demand::Demand;
use crate::cache::stored::{Head, PageRef, Side, decode_side_page};
use crate::cache::{history, page};
use crate::store::{Beginning, ContentHash, Entry, Key, open};

/// What can be said of an entry without looking at another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It says what its key promises.
    Sound,
    /// It begins a document in this many more parts; whether that is whole is seen with all of them.
    Begins(u32),
    /// A newer samovar wrote it: not for us to judge.
    Newer,
    /// It does not say what its key promises: it is as good as not there.
    Damaged(String),
}

impl Judgement {
    pub(super) fn of(key: &Key, entry: &Entry) -> Self {
        let plain = match open(&entry.value) {
            Ok(plain) => plain,
            Err(error) if error.is_newer_version() => return Self::Newer,
            Err(error) => return Self::Damaged(error.to_string()),
        };
        match key {
            Key::Head(_) => decodes::<Head>(&plain),
            Key::Side(_) => decodes::<Side>(&plain),
            Key::SidePage(..) => Self::sound_if(decode_side_page(entry).is_some(), "it is no side page"),
            Key::Demand(_) => decodes::<Demand>(&plain),
            Key::Page(_, hash) => {
                named(&plain, *hash, || Self::sound_if(page::decode(&plain).is_some(), "it is no page"))
            }
            Key::Directory(_, hash) => named(&plain, *hash, || decodes::<Vec<PageRef>>(&plain)),
            Key::History(_, hash) => {
                let decodes = || history::decode_page(&plain).is_some();
                named(&plain, *hash, || Self::sound_if(decodes(), "it is no page of a history"))
            }
            Key::Document(digest) => match Beginning::of(digest, entry) {
                Beginning::Whole => Self::Sound,
                Beginning::InParts(more) => Self::Begins(more),
                Beginning::Damaged => Self::Damaged("its bytes do not match its digest".into()),
            },
            Key::DocumentPart(..)
            | Key::Lane(_)
            | Key::Asked(_)
            | Key::Budget(_)
            | Key::Catalog(_)
            | Key::CatalogPart(..)
            | Key::Notified(..)
            | Key::Sweep
            | Key::OnDemand => Self::Sound,
        }
    }

    fn sound_if(decodes: bool, otherwise: &str) -> Self {
        if decodes { Self::Sound } else { Self::Damaged(otherwise.to_owned()) }
    }
}

fn named(plain: &[u8], hash: ContentHash, decoded: impl FnOnce() -> Judgement) -> Judgement {
    if ContentHash::of(plain) != hash {
        return Judgement::Damaged("its content is not what its name promises".into());
    }
    decoded()
}

fn decodes<T: DeserializeOwned>(plain: &[u8]) -> Judgement {
    match serde_json::from_slice::<T>(plain) {
        Ok(_) => Judgement::Sound,
        Err(error) => Judgement::Damaged(format!("it does not decode: {error}")),
    }
}
