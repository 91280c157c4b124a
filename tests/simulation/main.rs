//! Days in seconds: the real warmer, cache, store code and client for registries, with its budgets, logins and retries, in
//! simulated time over a simulated wire to five registries of which each is in some trouble.
//!
//! - `scenario`: how much, which registries, when replicas stop; everything follows from the seed;
//! - `registry` (with `images`, `law`, `life`): one registry: what it holds, what becomes of that, what it answers, what it
//!   demands of those who ask it;
//! - `wire`: all registries together, in place of the network; writes down what was asked when;
//! - `fleet`: the replicas, which are started, stopped and killed;
//! - `allowance`, `judge`, `report`: how old what is known may be, how old it is, and what came out.
//!
//! `make simulation` runs the whole of it, of any size and with any seed, in an optimised build.

#![expect(clippy::print_stdout, reason = "its figures are what a simulation is run for")]

mod allowance;
mod fleet;
mod images;
mod judge;
mod law;
mod life;
mod registry;
mod report;
mod scenario;
#[path = "../common/shared_store.rs"]
mod shared_store;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use samovar_registry::Name;

use fleet::{Fleet, watched};
use judge::Judge;
use report::{HostReport, Report, process};
use scenario::{DAY, HEALTHY, HOUR, MINUTE, Scenario};
use wire::Network;

/// How often it is looked how old everything is.
const LOOK_EVERY: Duration = HOUR;
/// How often what was announced is heard, and how often it is read again as history, which is bounded.
const LISTEN_EVERY: Duration = Duration::from_mins(5);
const READ_EVERY: Duration = DAY;
/// Repositories that are compared each time.
const COMPARED_AT_ONCE: usize = 10;

/// Requests that may wait to be started, as documented.
const MOST_WAITING: usize = 1_000;
/// Passes of one host that may run at once, as documented; of two replicas that hand over, both.
const MOST_PASSES: usize = 16;

/// What a simulation needs of memory is read off the process: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs one simulation to its end.
fn simulate(scenario: Scenario, with_lines: bool) -> Report {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(live_through(scenario, with_lines))
}

async fn live_through(scenario: Scenario, with_lines: bool) -> Report {
    let (memory, cpu) = (process::memory(), process::cpu());
    let (registries, mut life) = scenario.world();
    let network = Network::new(registries);
    network.state().lines = with_lines.then(Vec::new);
    let names = watched(&network);
    let mut judge = Judge::new(fixed_intervals(&names, scenario.learns));
    let mut fleet = Fleet::new(network.clone(), &scenario, &judge.intervals);
    let cache = fleet.cache();
    let mut peak_memory = memory;

    let mut turns = scenario.turns().into_iter().peekable();
    let (mut look_at, mut listen_at, mut read_at) = (LOOK_EVERY, Duration::ZERO, READ_EVERY);
    loop {
        let next_turn = turns.peek().map(|(at, _)| *at);
        let next = [next_turn, life.next()].into_iter().flatten().min().unwrap_or(scenario.length());
        let next = next.min(look_at).min(listen_at).min(scenario.length());
        tokio::time::sleep_until(network.at(next)).await;
        let now = network.now();
        life.live(now, &mut network.state().registries);
        while let Some((_, turn)) = turns.next_if(|(at, _)| *at <= now) {
            fleet.turn(turn).await;
        }
        if listen_at <= now {
            listen_at = now + LISTEN_EVERY;
            fleet.listen().into_iter().for_each(|wrong| judge.found(now, wrong));
            peak_memory = peak_memory.max(process::memory());
        }
        if look_at <= now {
            look_at = now + LOOK_EVERY;
            judge.look_at_ages(&network, &fleet.downtimes());
            judge.compare(&names, COMPARED_AT_ONCE, &cache, &network, &fleet.downtimes()).await;
        }
        if read_at <= now {
            read_at = now + READ_EVERY;
            judge.read_history(&names, &cache).await;
        }
        if now >= scenario.length() {
            break;
        }
    }
    let downtimes = fleet.downtimes();
    fleet.stop().await;
    judge.read_history(&names, &cache).await;
    judge.compare(&names, names.len(), &cache, &network, &downtimes).await;
    judge.compare_announcements(&network, &downtimes);
    report(scenario, &network, judge, &fleet, (memory, peak_memory), process::cpu().saturating_sub(cpu))
}

/// Every other repository, or every one, is listed every five minutes; how often the others are, is learnt.
fn fixed_intervals(names: &[Name], others_are_learnt: bool) -> BTreeMap<Name, Duration> {
    names
        .iter()
        .step_by(if others_are_learnt { 2 } else { 1 })
        .map(|name| (name.clone(), 5 * MINUTE))
        .collect()
}

fn report(
    scenario: Scenario,
    network: &Network,
    mut judge: Judge,
    fleet: &Fleet,
    memory: (usize, usize),
    cpu: Duration,
) -> Report {
    let mut state = network.state();
    let (told, count) = judge.verdict();
    let (mut findings, mut findings_count) = (told.to_vec(), count);
    for registry in &state.registries {
        let (told, count) = registry.law.verdict();
        findings.extend(told.iter().map(|told| format!("{}: {told}", registry.traits.host)));
        findings_count += count;
    }
    findings.extend(state.astray.iter().map(|what| format!("asked of nobody: {what}")));
    findings_count += state.astray.len();
    let tags = |registry: &registry::Registry| -> usize {
        registry.repositories.values().map(|repository| repository.tags.len()).sum()
    };
    let hosts = state.registries.iter().map(|registry| HostReport {
        host: registry.traits.host,
        tags: tags(registry),
        counts: registry.counts,
        limits: registry.traits.limits,
        quota: registry.traits.quota,
        most_under_way: registry.law.most_under_way(),
        most_pulls: registry.counter.as_ref().map(|counter| counter.most_used),
        fared: report::fared(&mut judge, registry.traits.host),
    });
    let hosts: Vec<HostReport> = hosts.collect();
    Report {
        scenario,
        trace: state.trace(),
        requests: state.requests,
        tags: hosts.iter().map(|host| host.tags).sum(),
        hosts,
        tags_compared: judge.tags_compared,
        peak_waiting: fleet.peak_waiting,
        peak_passes: fleet.peak_passes,
        memory,
        cpu,
        kills: fleet.kills.len(),
        stops: downtimes_count(fleet),
        findings,
        findings_count,
        lines: state.lines.take(),
    }
}

fn downtimes_count(fleet: &Fleet) -> usize {
    fleet.downtimes().0.len()
}

/// What `make simulation` says of one thing, or what is simulated where it says nothing.
fn sized(variable: &str, otherwise: usize) -> usize {
    let said = std::env::var(variable).ok();
    said.map_or(otherwise, |said| {
        said.parse().unwrap_or_else(|_| panic!("{variable}={said} is not a number"))
    })
}

fn small(with_sick: bool) -> Scenario {
    Scenario { seed: 1, days: 1, repositories: 25, tags: 500, with_sick, learns: true }
}

/// What every simulation promises, whatever its size.
fn check(report: &Report) {
    println!("{report}");
    let failing_seed = report.scenario.seed;
    assert_eq!(report.findings_count, 0, "with seed {failing_seed}:\n{report}");
    for host in &report.hosts {
        let limits = host.limits;
        assert!(host.most_under_way <= limits.concurrency, "{}: {}", host.host, host.most_under_way);
        let is_within = host.quota.is_none_or(|quota| host.most_pulls <= Some(quota.limit));
        assert!(is_within, "{}: {:?} pulls", host.host, host.most_pulls);
        // Where pulls are counted, a new tag is announced when its turn has come: how old the lists are is looked at.
        if HEALTHY.contains(&host.host) && host.quota.is_none() {
            assert!(host.detection(0.99) <= 1.0, "with seed {failing_seed}: {}\n{report}", host.host);
        }
    }
    check_costs(report);
    assert!(report.peak_waiting <= MOST_WAITING, "{report}");
    assert!(report.peak_passes <= MOST_PASSES * report.hosts.len(), "{report}");
}

/// Where nothing is wrong, requests are as many as the cadence makes them, and memory as large as what is kept.
fn check_costs(report: &Report) {
    let (days, plain) = (f64::from(report.scenario.days), report.host("plain.example"));
    let (tags, repositories) = (real(plain.tags), real((report.scenario.repositories / 5).max(1)));
    // Intervals double from an hour on, and not every tag's do. What is built every hour is asked about more often.
    let heads = tags * ((24.0 * days).log2() + 1.0) + repositories * days * 15.0;
    assert!(real(to_usize(plain.counts.heads)) <= heads, "more than {heads} HEADs\n{report}");
    // One half every five minutes, the other every hour once that is learnt.
    let half = (repositories / 2.0).ceil();
    let others = if report.scenario.learns { 40.0 * days + 60.0 } else { 288.0 * 1.1 * days };
    let lists = half * (288.0 * 1.1 * days + others) * 1.1;
    assert!(real(to_usize(plain.counts.lists)) <= lists, "more than {lists} lists\n{report}");
    let memory = 32 * 1024 * 1024 + report.tags * 6 * 1024;
    assert!(report.memory.1 <= report.memory.0 + memory, "more than {memory} B\n{report}");
}

fn real(count: usize) -> f64 {
    count as f64
}

fn to_usize(count: u64) -> usize {
    usize::try_from(count).expect("64 bits")
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_one_another() {
    let one = simulate(small(true), true);
    let again = simulate(small(true), true);
    let (one_lines, again_lines) = (one.lines.unwrap(), again.lines.unwrap());
    let differs = one_lines.iter().zip(&again_lines).position(|(one, another)| one != another);
    if let Some(first) = differs {
        let around =
            |lines: &[String]| lines[first.saturating_sub(3)..(first + 3).min(lines.len())].join("\n");
        panic!("the traces differ:\n{}\nand\n{}", around(&one_lines), around(&again_lines));
    }
    assert_eq!((one.trace, one.requests), (again.trace, again.requests));
    assert_ne!(simulate(Scenario { seed: 2, ..small(true) }, false).trace, one.trace);
}

#[test]
fn registries_in_trouble_make_no_difference_to_others() {
    // New tags are few in a day: by chance, what is learnt would make more of a difference.
    let alike = |with_sick| Scenario { learns: false, ..small(with_sick) };
    let (with, without) = (simulate(alike(true), false), simulate(alike(false), false));
    check(&with);
    check(&without);
    for host in HEALTHY {
        let (with, without) = (with.host(host), without.host(host));
        let close = |one: Duration, another: Duration| one <= another + another / 4 + MINUTE;
        for part in [0.5, 0.99] {
            let (with, without) = (with.latency(part), without.latency(part));
            assert!(
                close(with, without),
                "{host}: new tags after {with:?}, and {without:?} without the others"
            );
        }
        let (with, without) = (&with.fared, &without.fared);
        assert!(close(with.latest, without.latest), "{host}: {:?}, {:?}", with.latest, without.latest);
        assert!(close(with.longest_unlisted, without.longest_unlisted), "{host}");
    }
}

#[test]
fn days_of_many_repositories() {
    let report = simulate(
        Scenario {
            seed: sized("SIMULATION_SEED", 1) as u64,
            days: u32::try_from(sized("SIMULATION_DAYS", 2)).expect("days"),
            repositories: sized("SIMULATION_REPOSITORIES", 25),
            tags: sized("SIMULATION_TAGS", 1_000),
            with_sick: true,
            learns: true,
        },
        false,
    );
    check(&report);
}
