use proptest::prelude::*;
use samovar_registry::upstream::{ErrorClass, TagList};
use samovar_registry::{Digest, Labels, Tag};

use super::*;
use crate::cache::records::{ImageRecord, LastError};
use crate::cache::stored::{Denied, Gone, Shrunken, decode};
use crate::store::{Client, ContentHash, Memory, Reader};
use crate::warmer::change::Cause;
use crate::warmer::publish::HistoryBounds;
use crate::warmer::tag::{Circumstance, TagAnswer};

const POLL: &PollInterval = &PollInterval::fixed(Duration::from_mins(5));
/// The usual intervals, and nobody reads.
const PACED: Paced = Paced { longest_seconds: 7 * 24 * 60 * 60, in_demand: false };

fn name() -> Name {
    "registry.example/team/app".parse().unwrap()
}

/// Without jitter: deadlines of tags are kept to the second.
fn at(seconds: i64) -> Circumstance {
    let now = Timestamp::from_second(seconds).unwrap();
    Circumstance { began: now, now, cause: Cause::Poll, jitter: 0.0 }
}

async fn load(store: &Memory, seconds: i64) -> WorkingCopy {
    WorkingCopy::load(store, &name(), "", HistoryBounds::default(), at(seconds).now).await.unwrap()
}

/// A repository of tags that were asked about after so many seconds each, with these answers. Says what its list left behind.
async fn stored(answers: &[(i64, u8)]) -> (Memory, ListState) {
    let store = Memory::default();
    let copy = load(&store, 0).await;
    let tags: Vec<Tag> = (0..answers.len()).map(|number| format!("1.{number:03}").parse().unwrap()).collect();
    let list = TagList { tags: tags.clone(), ..TagList::default() };
    let left = ListState::of(&list);
    {
        let mut state = copy.state();
        state.apply_list(&list, &TagFilter::All, POLL, at(0));
        state.remember_list(left.clone());
        for (tag, (seconds, answer)) in tags.iter().zip(answers) {
            let image = ImageRecord {
                digest: Digest::sha256(tag.as_str().as_bytes()),
                image_id: None,
                media_type: String::new(),
                size: None,
                created_at: None,
                labels: Labels::default(),
                platforms: Vec::new(),
            };
            let answer = match answer % 3 {
                0 => TagAnswer::Unknown,
                1 => TagAnswer::Failed { class: ErrorClass::Protocol, reason: String::new(), moved_to: None },
                _ => TagAnswer::Image(Arc::new(image)),
            };
            state.apply_answer(tag, answer, at(*seconds));
        }
        state.pull_forward(at(0).now);
    }
    copy.publish(&store, at(0).now).await.unwrap();
    (store, left)
}

const WANTED: Wanted<'_> =
    Wanted { filter: &TagFilter::All, platforms: "", poll: POLL, paced: PACED, time_to_live: None };

async fn front_for(store: &Memory, wanted: Wanted<'_>, seconds: i64) -> Option<Front> {
    let snapshot = Loading::new(store, &name(), &()).snapshot(Pages::None).await.unwrap();
    Front::of(snapshot, &name(), wanted, at(seconds).now)
}

async fn front(store: &Memory, seconds: i64) -> Option<Front> {
    front_for(store, WANTED, seconds).await
}

async fn side(store: &Memory) -> Side {
    decode(store.get(&Key::Side(name())).await.unwrap().as_ref()).unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #[test]
    fn a_light_pass_writes_what_the_whole_one_would_and_never_runs_while_a_tag_is_due(
        answers in proptest::collection::vec((0_i64..600, any::<u8>()), 1..20),
        seconds in 1_i64..4000,
    ) {
        run(async {
            let (store, left) = stored(&answers).await;
            let front = front(&store, seconds).await;
            let whole = load(&store, seconds).await;
            let is_due = !whole.state().due(at(seconds).now, false, |_| None).is_empty();
            let is_listed = whole.state().listing_is_due(&TagFilter::All, POLL, at(seconds).now);
            prop_assert_eq!(front.is_some(), is_listed && !is_due);
            let Some(front) = front else { return Ok(()) };

            let known = whole.state().known_list(&TagFilter::All).cloned();
            prop_assert_eq!(known.as_ref(), Some(&front.known));
            for copy in [&whole, &*front.copy] {
                copy.state().list_unchanged(left.clone(), &TagFilter::All, POLL, at(seconds));
            }
            whole.publish(&store, at(seconds).now).await.unwrap();
            let light = front.next_side();
            // That the pages were looked at is the one thing that it cannot say.
            prop_assert_eq!(light.whole_at, Some(at(0).now));
            let whole_at = Some(at(seconds).now);
            prop_assert_eq!(Side { whole_at, ..light }, side(&store).await);
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn anything_out_of_the_way_is_for_the_whole_pass() {
    let (store, _) = stored(&[(0, 2), (0, 2)]).await;
    assert!(front(&store, 400).await.is_some());
    assert!(front(&store, 200).await.is_none(), "the list is not due");
    let usual = side(&store).await;
    let time = |seconds| Some(at(seconds).now);
    let denied = Some(Denied { since: at(0).now, until: at(0).now });
    let last_error = Some(LastError { message: String::new(), at: at(0).now });
    for (what, unusual) in [
        ("a tag is due", Side { next_tag: time(400), ..usual.clone() }),
        ("a clock was wrong", Side { next_tag: time(40 * 24 * 3600), ..usual.clone() }),
        ("a clock was wrong", Side { whole_at: time(401), ..usual.clone() }),
        ("the pages were not looked at for long", Side { whole_at: time(400 - 6 * 3600), ..usual.clone() }),
        ("nobody says when they were", Side { whole_at: None, ..usual.clone() }),
        ("it could not be listed", Side { attempts: 1, ..usual.clone() }),
        ("it could not be listed", Side { last_error, ..usual.clone() }),
        ("it is denied", Side { denied, ..usual.clone() }),
        ("it may be gone", Side { gone: Some(Gone { since: at(0).now, confirmations: 1 }), ..usual.clone() }),
        ("it shrank", Side { shrunken: Some(Shrunken { tags: 1, since: at(0).now }), ..usual.clone() }),
        ("the list is not known", Side { listing: None, ..usual.clone() }),
        ("other tags are wanted", Side { filter: Some(ContentHash::of(b"another filter")), ..usual.clone() }),
    ] {
        store.set(Key::Side(name()), Entry::immutable(encode(&unusual))).await.unwrap();
        assert!(front(&store, 400).await.is_none(), "{what}");
    }
    store.set(Key::Side(name()), Entry::immutable(encode(&usual))).await.unwrap();
    assert!(front(&store, 400).await.is_some());
    let others = Wanted { platforms: "linux/arm64", ..WANTED };
    assert!(front_for(&store, others, 400).await.is_none(), "other platforms are wanted");
    let read = Wanted { paced: Paced { in_demand: true, ..PACED }, ..WANTED };
    assert!(front_for(&store, read, 400).await.is_none(), "somebody has begun to read it");
    let often = Wanted { paced: Paced { longest_seconds: 60, ..PACED }, ..WANTED };
    assert!(front_for(&store, often, 400).await.is_none(), "tags are to be confirmed more often");

    let mortal = Wanted { time_to_live: Some(Duration::from_hours(30 * 24)), ..WANTED };
    let put = async |side: Side| store.set(Key::Side(name()), Entry::immutable(encode(&side))).await.unwrap();
    assert!(front_for(&store, mortal, 400).await.is_none(), "nobody says when it was renewed");
    let renewed = Side { renewed_at: time(0), ..usual.clone() };
    put(renewed.clone()).await;
    assert!(front_for(&store, mortal, 400).await.is_some());
    put(Side { whole_at: time(400 - 1800), ..renewed }).await;
    assert!(front_for(&store, mortal, 400).await.is_none(), "the store may have evicted a page");
    store.delete(vec![Key::Head(name())]).await.unwrap();
    assert!(front(&store, 400).await.is_none(), "the head was evicted");
}
