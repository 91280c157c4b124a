//! What is behind a tag: images in all their forms, and what is no image.

use samovar::cache::records::TagStateName;
use samovar::store::Documents;
use samovar_registry::Digest;
use samovar_testing::{Content, Document, Schema1Image, digest_of};

use super::*;

/// One repository `registry.example/app`.
struct App {
    world: World,
    store: Arc<dyn Client>,
    name: Name,
}

impl App {
    fn new() -> Self {
        Self { world: World::default(), store: memory(), name: name("registry.example/app") }
    }

    fn push(&self, tag: &str, content: &dyn Content) -> Digest {
        self.world.push(&self.name, tag, content)
    }

    fn start(&self) -> Running {
        start(&self.world, &self.store, &[&self.name])
    }

    async fn stores(&self, digest: &Digest) -> bool {
        Documents(&*self.store).get(digest).await.unwrap().is_some()
    }
}

fn arm(seed: &str) -> Image {
    Image::new(seed).platform("linux/arm64")
}

fn platforms(wanted: &[&str]) -> Option<Platforms> {
    Platforms::new(wanted.iter().map(|platform| platform.parse().unwrap()).collect())
}

#[tokio::test(start_paused = true)]
async fn indexes_in_indexes_are_read() {
    let app = App::new();
    let (amd, arm) = (Image::new("amd").created("2024-01-01T00:00:00Z"), arm("arm").label("k", "v"));
    let inner = Index::of([&arm]).annotation("depth", "3");
    let index = Index::of([])
        .child_index(&Index::of([&amd]).attestation_child())
        .child_index(&Index::of([]).child_index(&inner));
    let digest = app.push("nested", &index);
    app.push("half", &Index::of([&amd]).child_index(&inner));
    let samovar = app.start();
    let repository = samovar.complete(&app.name).await;
    for tag_ in ["nested", "half"] {
        let image = &repository.metadata.images[&tag(tag_)];
        assert_eq!(image.platforms, ["linux/amd64", "linux/arm64"], "{tag_}");
        assert_eq!(image.image_id, Some(amd.config().digest.parse().unwrap()), "the platform wanted most");
        assert_eq!((&image.labels["k"], &image.labels["depth"]), ("v", "3"));
        assert_eq!(image.created_at, Some("2024-01-01T00:00:00Z".parse().unwrap()));
    }
    assert_eq!(repository.metadata.images[&tag("nested")].digest, digest);
    // Two tags, three more indexes, two images: each once.
    assert_eq!((app.world.count(Operation::Manifest), app.world.count(Operation::Config)), (7, 2));
}

#[tokio::test(start_paused = true)]
async fn an_index_that_has_what_is_wanted_is_not_searched_further() {
    let app = App::new();
    let more = Index::of([&Image::new("more")]);
    app.push("enough", &Index::of([&Image::new("amd"), &arm("arm")]).child_index(&more));
    let samovar = app.start();
    samovar.complete(&app.name).await;
    assert_eq!(app.world.count(Operation::Manifest), 3);
}

/// So many indexes, one in another, around an image.
fn nested(depth: usize) -> Index {
    let innermost = Index::of([&Image::new("deep")]);
    (1..depth).fold(innermost, |inner, _| Index::of([]).child_index(&inner))
}

#[tokio::test(start_paused = true)]
async fn nesting_is_read_to_a_bounded_depth_and_breadth() {
    let app = App::new();
    app.push("three", &nested(3));
    app.push("four", &nested(4));
    let samovar = app.start();
    let repository = samovar.complete(&app.name).await;
    assert!(repository.metadata.images.contains_key(&tag("three")));
    let deep = &repository.unavailable[&tag("four")];
    assert_eq!(deep.state, TagStateName::Excluded);
    assert_eq!(deep.reason.as_deref(), Some("no image: the index holds indexes more than 3 deep"));
    samovar.stop().await;

    // Every level four times as wide as the one above, all different, and none with what is wanted.
    let app = App::new();
    let wide = |seed: String| {
        let leaves: Vec<_> =
            (0..4).map(|leaf| Image::new(format!("{seed}{leaf}")).platform("linux/s390x")).collect();
        leaves.iter().fold(Index::of([]), Index::child_without_platform)
    };
    let middle =
        |seed: usize| (0..4).fold(Index::of([]), |index, n| index.child_index(&wide(format!("{seed}{n}"))));
    app.push("wide", &(0..4).fold(Index::of([]), |index, n| index.child_index(&middle(n))));
    let samovar = app.start();
    let repository = samovar.complete(&app.name).await;
    let reason = repository.unavailable[&tag("wide")].reason.as_deref();
    assert!(reason.is_some_and(|reason| reason.starts_with("no wanted platform")), "{reason:?}");
    assert_eq!(app.world.count(Operation::Manifest), 1 + 64);
}

#[tokio::test(start_paused = true)]
async fn what_an_index_names_again_and_again_is_asked_for_once() {
    let app = App::new();
    let inner = Index::of([&Image::new("amd")]);
    let around = (0..3).fold(Index::of([]), |index, _| index.child_index(&inner));
    app.push("again", &(0..2).fold(around.clone(), |index, _| index.child_index(&around)));
    let samovar = app.start();
    samovar.complete(&app.name).await;
    // The index, the one around, the inner one, the image.
    assert_eq!(app.world.count(Operation::Manifest), 4);
}

#[tokio::test(start_paused = true)]
async fn images_of_schema_1_are_images() {
    let app = App::new();
    let old = Schema1Image::new("old").created("2015-06-01T02:03:04Z").label("k", "v");
    let signed = app.push("signed", &old);
    let unsigned = app.push("unsigned", &Schema1Image::new("unsigned").unsigned());
    app.push("z80", &old.clone().architecture("z80"));
    app.push("broken", &Document::new(samovar_testing::media_type::DOCKER_SCHEMA1, "{\"schemaVersion\": 1}"));
    let samovar = app.start();
    let repository = samovar.until(&app.name, |repository| repository.unavailable.len() == 2).await;
    let image = &repository.metadata.images[&tag("signed")];
    assert_eq!(image.digest, signed);
    assert_eq!(image.image_id, Some(format!("sha256:{}", old.id()).parse().unwrap()));
    assert_eq!((image.created_at, image.size), (Some("2015-06-01T02:03:04Z".parse().unwrap()), None));
    assert_eq!((&image.labels["k"], &image.platforms[..]), ("v", &["linux/amd64".to_owned()][..]));
    assert!(repository.metadata.images.contains_key(&tag("unsigned")));
    assert!(app.stores(&signed).await, "by the digest of what was signed");
    assert!(app.stores(&unsigned).await);
    let reason = |text: &str| repository.unavailable[&tag(text)].reason.clone().unwrap();
    assert!(reason("z80").starts_with("no wanted platform: it offers linux/z80"), "{}", reason("z80"));
    assert!(reason("broken").contains("Docker schema 1 manifest cannot be decoded"), "{}", reason("broken"));
    assert_eq!(repository.unavailable[&tag("broken")].state, TagStateName::Failed);
    assert_eq!(app.world.count(Operation::Config), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_image_is_excluded_with_what_it_is_and_kept() {
    let app = App::new();
    let chart = Image::new("chart").config_media_type("application/vnd.cncf.helm.config.v1+json");
    let flux = Image::new("flux").config_media_type("application/vnd.cncf.flux.config.v1+json");
    let spdx = Image::new("sbom").layer_media_type("text/spdx+json");
    let thing = Image::new("thing").artifact_type("application/vnd.example.thing").config_media_type("a/b");
    let compose = Index::of([]).artifact_type("application/vnd.docker.compose.project");
    let among = Index::of([]).child_without_platform(&chart);
    for (tag_, content, expected) in [
        (
            "chart",
            &chart as &dyn Content,
            "not an image but a Helm chart (application/vnd.cncf.helm.config.v1+json)",
        ),
        ("flux", &flux, "not an image but a Flux artifact (application/vnd.cncf.flux.config.v1+json)"),
        ("spdx", &spdx, "not an image but an SBOM (SPDX) (text/spdx+json)"),
        ("thing", &thing, "not an image but application/vnd.example.thing"),
        (
            "compose",
            &compose,
            "not an image but a Docker Compose project (application/vnd.docker.compose.project)",
        ),
        ("among", &among, "not images but a Helm chart (application/vnd.cncf.helm.config.v1+json)"),
    ] {
        let digest = app.push(tag_, content);
        let samovar = app.start();
        let repository = samovar
            .until(&app.name, |found| found.unavailable.contains_key(&tag(tag_)) && found.complete)
            .await;
        let unavailable = &repository.unavailable[&tag(tag_)];
        assert_eq!(
            (unavailable.state, unavailable.reason.as_deref()),
            (TagStateName::Excluded, Some(expected))
        );
        assert!(app.stores(&digest).await, "{tag_} is kept for those who ask by digest");
        samovar.stop().await;
        app.world.remove(&app.name, tag_);
    }
    assert_eq!(app.world.count(Operation::Config), 0);
}

#[tokio::test(start_paused = true)]
async fn an_index_of_images_and_other_things_is_an_image() {
    let app = App::new();
    let sbom = Image::new("sbom").layer_media_type("text/spdx+json");
    let (amd, arm) = (Image::new("amd"), arm("arm"));
    let index =
        Index::of([]).child_without_platform(&sbom).child_without_platform(&arm).child_without_platform(&amd);
    app.push("v1", &index);
    let samovar = app.start();
    let repository = samovar.complete(&app.name).await;
    let image = &repository.metadata.images[&tag("v1")];
    assert_eq!(image.image_id, Some(amd.config().digest.parse().unwrap()));
    assert_eq!(image.platforms, ["linux/amd64", "linux/arm64"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_beside_an_image_is_told_by_its_name_and_costs_nothing() {
    let app = App::new();
    let image = Image::new("1");
    let named_after = image.digest().replace("sha256:", "sha256-");
    app.push("v1", &image);
    for suffix in ["", ".sig", ".att", ".sbom"] {
        app.push(&format!("{named_after}{suffix}"), &Image::new(suffix));
    }
    let samovar = app.start();
    let repository = samovar.complete(&app.name).await;
    assert_eq!(repository.metadata.images.len(), 1);
    let signature = tag(&format!("{named_after}.sig"));
    let unavailable = &repository.unavailable[&signature];
    assert_eq!((unavailable.state, unavailable.next_attempt), (TagStateName::Excluded, None));
    assert_eq!(unavailable.reason.as_deref(), Some("not an image but a cosign signature, by its name"));
    samovar.handle.refresh(&app.name, Some(signature.clone())).unwrap().done().await.unwrap();
    samovar.handle.refresh(&app.name, None).unwrap().done().await.unwrap();
    tokio::time::sleep(HOUR * 48).await;
    let asked = app.world.take_asked();
    assert!(asked.iter().all(|asked| !asked.what.starts_with("sha256-")), "{asked:?}");
    assert!(samovar.repository(&app.name).await.unavailable.contains_key(&signature));
}

// D12 of the ancestor's ledger: linux/amd64 was the only platform there was.
#[tokio::test(start_paused = true)]
async fn each_repository_has_the_platforms_of_its_watch() {
    let app = App::new();
    let usual = name("registry.example/usual");
    let (amd, arm) = (Image::new("amd").label("for", "amd64"), arm("arm").label("for", "arm64"));
    for name in [&app.name, &usual] {
        app.world.push(name, "both", &Index::of([&amd, &arm]));
        app.world.push(name, "amd", &amd);
    }
    let samovar = start(&app.world, &app.store, &[&app.name, &usual]);
    samovar.complete(&app.name).await;
    samovar.complete(&usual).await;
    app.world.take_asked();

    let watch = |wanted: &[&str]| {
        let mut list = watching(&[&app.name, &usual]);
        list.0.get_mut(&app.name).unwrap().platforms = platforms(wanted);
        list
    };
    let began = tokio::time::Instant::now();
    samovar.watch.send_replace(watch(&["linux/arm64"]));
    let is_for_arm = |repository: &ImageRepository| {
        &repository.metadata.images[&tag("both")].labels["for"] == "arm64"
            && repository.unavailable.len() == 1
    };
    let repository = samovar.until(&app.name, is_for_arm).await;
    assert!(repository.complete && began.elapsed() < Duration::from_secs(1));
    assert_eq!(samovar.repository(&usual).await.metadata.images.len(), 2, "no business of the other's");
    // Also over a restart.
    samovar.stop().await;
    let samovar = app.start();
    samovar.watch.send_replace(watch(&["linux/arm64"]));
    tokio::time::sleep(MINUTE).await;
    assert!(is_for_arm(&samovar.repository(&app.name).await));
    samovar.watch.send_replace(watch(&["linux/amd64", "linux/s390x"]));
    samovar.until(&app.name, |repository| repository.metadata.images.len() == 2).await;
    assert_eq!(app.world.count(Operation::Manifest) + app.world.count(Operation::Config), 0);
}

/// An image for amd64 and arm64 that says by a label which of them it was looked at for.
fn for_both(number: usize) -> Index {
    let amd = Image::new(format!("amd {number}")).label("for", "amd64");
    Index::of([&amd, &arm(&format!("arm {number}")).label("for", "arm64")])
}

fn all_are_for_arm(repository: &ImageRepository) -> bool {
    repository.metadata.images.values().all(|image| &image.labels["for"] == "arm64")
}

#[tokio::test(start_paused = true)]
async fn platforms_that_change_during_a_pass_hold_from_then_on() {
    let app = App::new();
    app.world.set_latency("registry.example", Duration::from_secs(5));
    for number in 0..50 {
        app.push(&format!("v{number}"), &for_both(number));
    }
    let samovar = app.start();
    samovar.until(&app.name, |repository| !repository.metadata.images.is_empty()).await;
    let mut list = watching(&[&app.name]);
    list.0.get_mut(&app.name).unwrap().platforms = platforms(&["linux/arm64"]);
    samovar.watch.send_replace(list);
    let repository =
        samovar.until(&app.name, |repository| repository.complete && all_are_for_arm(repository)).await;
    assert_eq!(repository.metadata.images.len(), 50);
}

#[tokio::test(start_paused = true)]
async fn platforms_that_change_while_a_tag_is_asked_about_hold_at_once() {
    let app = App::new();
    app.push("v1", &for_both(1));
    app.push("v2", &for_both(2));
    let samovar = app.start();
    samovar.complete(&app.name).await;
    app.world.set_latency("registry.example", Duration::from_secs(20));
    let ticket = samovar.handle.refresh(&app.name, Some(tag("v1"))).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut list = watching(&[&app.name]);
    list.0.get_mut(&app.name).unwrap().platforms = platforms(&["linux/arm64"]);
    let began = tokio::time::Instant::now();
    samovar.watch.send_replace(list);
    ticket.done().await.unwrap();
    samovar.until(&app.name, all_are_for_arm).await;
    assert!(began.elapsed() < 3 * MINUTE, "{:?}", began.elapsed());
}

/// The image with everything addressed by sha512.
struct Sha512(Image);

impl Sha512 {
    fn named(document: Document) -> Document {
        let digest = Digest::sha512(&document.bytes).to_string();
        Document { digest, ..document }
    }
}

impl Content for Sha512 {
    fn manifest(&self) -> Document {
        let manifest = self.0.manifest();
        let text = String::from_utf8(manifest.bytes.to_vec()).unwrap();
        let named = self.0.blobs().into_iter().fold(text, |text, blob| {
            text.replace(&digest_of(&blob.bytes), &Digest::sha512(&blob.bytes).to_string())
        });
        Self::named(Document { bytes: named.into(), ..manifest })
    }

    fn children(&self) -> Vec<Document> {
        Vec::new()
    }

    fn blobs(&self) -> Vec<Document> {
        self.0.blobs().into_iter().map(Self::named).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn digests_may_be_of_sha512() {
    let app = App::new();
    let content = Sha512(Image::new("long").label("k", "v"));
    let digest = app.push("v1", &content);
    let index = Document::new(
        samovar_testing::media_type::OCI_INDEX,
        format!(
            r#"{{"manifests":[{{"digest":"{digest}","size":1,"platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#
        ),
    );
    app.push("index", &index);
    assert_eq!(digest.algorithm(), "sha512");
    let samovar = app.start();
    let repository = samovar.complete(&app.name).await;
    let image = &repository.metadata.images[&tag("v1")];
    let config = Digest::sha512(&content.0.config().bytes);
    assert_eq!((&image.digest, &image.image_id, &image.labels["k"]), (&digest, &Some(config.clone()), "v"));
    assert_eq!(repository.metadata.images[&tag("index")].image_id, Some(config.clone()));
    assert!(app.stores(&digest).await && app.stores(&config).await);
    samovar.stop().await;
    let samovar = app.start();
    tokio::time::sleep(MINUTE).await;
    app.world.take_asked();
    samovar.handle.refresh(&app.name, Some(tag("v1"))).unwrap().done().await.unwrap();
    let asked: Vec<Operation> = app.world.take_asked().iter().map(|asked| asked.operation).collect();
    assert_eq!(asked, [Operation::Resolve]);
    assert_eq!(samovar.repository(&app.name).await.metadata.images[&tag("v1")].digest, digest);
}
