//! Three samovars on one store, as processes: each registry is asked by one of them, all answer the same, and when one is
//! killed its registries are taken over.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::{and, repository_path, samovar, wait_for_repository, wait_until_complete, watch};
use samovar_testing::fake::{FakeRegistry, RequestKind};
use samovar_testing::{Image, Memcached, RedisServer, Samovar, SamovarServer};
use serde_json::Value;
use tokio::time::Instant;

const REGISTRIES: usize = 6;
const REPOSITORIES_EACH: usize = 10;
const TAGS: usize = 3;
const INTERVAL: Duration = Duration::from_secs(3);
/// A dead replica's registries are asked by another one after this long at the latest.
const TAKEOVER: Duration = Duration::from_secs(15);

struct Replica {
    /// Its home goes with it.
    _samovar: Samovar,
    server: SamovarServer,
}

struct Fleet {
    registries: Vec<FakeRegistry>,
    names: Vec<String>,
    replicas: Vec<Replica>,
}

impl Fleet {
    async fn start(store: &str) -> Self {
        let mut registries = Vec::new();
        let mut names = Vec::new();
        for _ in 0..REGISTRIES {
            let registry = FakeRegistry::start().await;
            for repository in 0..REPOSITORIES_EACH {
                let repository = format!("team/app{repository}");
                for tag in 0..TAGS {
                    let image = Image::new(format!("{repository} {tag}")).label("n", tag.to_string());
                    registry.push(&repository, &format!("1.{tag}"), &image);
                }
                names.push(format!("{}/{repository}", registry.host()));
            }
            registries.push(registry);
        }
        let mut replicas = Vec::new();
        for _ in 0..3 {
            let interval = format!("{}s", INTERVAL.as_secs());
            let arguments = and(watch(&names), ["--store", store, "--poll-interval", &interval]);
            let samovar = samovar();
            let server = samovar.serve(arguments).await;
            replicas.push(Replica { _samovar: samovar, server });
        }
        let fleet = Self { registries, names, replicas };
        for replica in &fleet.replicas {
            for name in &fleet.names {
                wait_until_complete(&replica.server, name).await;
            }
        }
        fleet
    }

    /// Which registries this replica asks.
    async fn asks(&self, replica: usize) -> BTreeSet<String> {
        let status: Value =
            serde_json::from_str(&self.replicas[replica].server.get_text("/api/v1/status").await).unwrap();
        let ours = status["lanes"].as_array().unwrap().iter().filter(|lane| lane["standing"] == "ours");
        ours.map(|lane| lane["host"].as_str().unwrap().to_owned()).collect()
    }

    fn lists(&self) -> usize {
        self.registries.iter().map(|registry| registry.count(RequestKind::Tags)).sum()
    }

    fn manifests(&self) -> usize {
        self.registries.iter().map(|registry| registry.count(RequestKind::ManifestGet)).sum()
    }

    /// Every repository as each replica answers it, without what changes with every look at the registry.
    async fn answers(&self, replica: usize) -> BTreeMap<String, Value> {
        let mut answers = BTreeMap::new();
        for name in &self.names {
            let mut answer = self.replicas[replica].server.get(&repository_path(name)).await.json();
            let body = answer.as_object_mut().unwrap();
            body.remove("last_update");
            for image in body["images"].as_object_mut().unwrap().values_mut() {
                image.as_object_mut().unwrap().remove("last_fetched");
            }
            answers.insert(name.clone(), answer);
        }
        answers
    }

    /// Pushes the tag to the first repository of every registry, and waits until all these replicas show it.
    async fn push_everywhere(&self, tag: &str, replicas: &[usize], limit: Duration) {
        for registry in &self.registries {
            registry.push("team/app0", tag, &Image::new(tag));
        }
        let began = Instant::now();
        for replica in replicas {
            for registry in &self.registries {
                let name = format!("{}/team/app0", registry.host());
                let server = &self.replicas[*replica].server;
                wait_for_repository(server, &name, |body| body["images"].get(tag).is_some()).await;
            }
        }
        assert!(began.elapsed() <= limit, "it took {:?}", began.elapsed());
    }
}

async fn replicas_share(store: &str) {
    let mut fleet = Fleet::start(store).await;

    // Each registry is asked by exactly one replica.
    let asked: Vec<BTreeSet<String>> = [fleet.asks(0).await, fleet.asks(1).await, fleet.asks(2).await].into();
    let all: BTreeSet<String> = fleet.registries.iter().map(FakeRegistry::host).collect();
    assert_eq!(asked.iter().map(BTreeSet::len).sum::<usize>(), REGISTRIES, "{asked:?}");
    assert_eq!(asked.iter().flatten().cloned().collect::<BTreeSet<_>>(), all);

    // Every repository is listed once an interval in all, not three times. This is a rate: it takes a while to see.
    fleet.registries.iter().for_each(FakeRegistry::clear_requests);
    let began = Instant::now();
    tokio::time::sleep(4 * INTERVAL).await;
    let intervals = began.elapsed().as_secs_f64() / INTERVAL.as_secs_f64();
    let per_repository = fleet.lists() as f64 / fleet.names.len() as f64;
    // The interval is jittered by a tenth, and the window begins anywhere in it.
    assert!(per_repository <= intervals / 0.9 + 1.0, "{per_repository} lists each in {intervals} intervals");
    assert!(per_repository >= intervals / 1.5 - 1.0, "{per_repository} lists each in {intervals} intervals");
    assert_eq!(fleet.manifests(), 0, "nothing has changed");

    // All answer the same.
    let answers = fleet.answers(0).await;
    assert_eq!(answers, fleet.answers(1).await);
    assert_eq!(answers, fleet.answers(2).await);
    fleet.push_everywhere("2.0", &[0, 1, 2], 3 * INTERVAL).await;

    // The one that asks most registries is killed: the others take over, and ask for nothing that is known.
    let most = (0..3).max_by_key(|replica| asked[*replica].len()).unwrap();
    fleet.registries.iter().for_each(FakeRegistry::clear_requests);
    fleet.replicas[most].server.kill();
    let left: Vec<usize> = (0..3).filter(|replica| *replica != most).collect();
    fleet.push_everywhere("3.0", &left, TAKEOVER + 2 * INTERVAL).await;
    let asks: BTreeSet<String> = &fleet.asks(left[0]).await | &fleet.asks(left[1]).await;
    assert_eq!(asks, all);
    // A manifest for each new tag; their configurations are counted apart.
    assert_eq!(fleet.manifests(), REGISTRIES);
    assert_eq!(fleet.answers(left[0]).await, fleet.answers(left[1]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_share_a_redis() {
    let redis = RedisServer::start().await;
    replicas_share(&format!("redis://{}", redis.host())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_share_a_memcached() {
    let memcached = Memcached::start().await;
    replicas_share(&format!("memcached://{}", memcached.host())).await;
}
