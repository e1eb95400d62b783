//! A round: people at work, faults, then quiet, then every invariant.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all, stream};
use hospital_kit::clock::Clock;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::{
    client::Client,
    day::{Act, Day},
    facts::Facts,
    inject::{GROUPS, Injected, Injector, Mood},
    menu::{Fault, Order},
    oracle::{Violation, judge},
    platform::Platform,
    record::{Kind, Outcome, Request},
    recovery::{self, Flow},
    seed::Rng,
    spawn_task,
    world::World,
};

/// How many people work at once, and how often each begins something.
const PEOPLE: u64 = 6;
const PACE: Duration = Duration::from_millis(50);
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long people work undisturbed first, so that there is a rate to come back to.
const BEFORE: Duration = Duration::from_millis(900);
/// How long after a fault that was alone its recovery is waited for at most.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(15);
/// How long the platform has to come to rest.
const QUIET: Duration = Duration::from_secs(30);
/// After how long a card payment that was interrupted must be settled: the reconciler holds a payment for half a minute.
const SETTLED_AFTER: Duration = Duration::from_secs(90);

/// What a round's people share.
struct Shared {
    world: Mutex<World>,
    log: Mutex<Vec<(Instant, Request)>>,
    /// When something was done that had an answer, in seconds since the round began.
    good: Mutex<Vec<f64>>,
    looks: AtomicU64,
    mood: Mood,
    began: Instant,
    stop: CancellationToken,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What lasts from round to round while a platform lives.
pub struct Town {
    pub client: Client,
    pub world: World,
    /// Every request of the platform's life, with the time of its round.
    pub log: Vec<(Instant, Request)>,
}

/// What a round came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub seed: u64,
    /// How often what was asked for was answered how.
    pub operations: BTreeMap<(String, String), u64>,
    pub faults: Vec<(String, String)>,
    /// Of a fault that was alone: seconds until all went as before, for requests and for events.
    pub recovery: Option<(Fault, f64, f64)>,
    pub quiet_s: f64,
    pub took_s: f64,
    pub violations: Vec<Violation>,
}

/// Plays a round.
///
/// # Errors
/// When the simulation itself cannot go on.
pub async fn play(platform: &Platform, town: &mut Town, seed: u64) -> anyhow::Result<Report> {
    let began = Instant::now();
    let wall = Clock::system().now();
    let shared = Arc::new(Shared {
        world: Mutex::new(std::mem::take(&mut town.world)),
        log: Mutex::default(),
        good: Mutex::default(),
        looks: AtomicU64::new(0),
        mood: Mood::default(),
        began,
        stop: CancellationToken::new(),
    });
    let people: Vec<_> = (0..PEOPLE)
        .map(|person| {
            let day = Day::new(seed, person, &town.client.caller, wall);
            spawn_task(work(
                Arc::clone(&shared),
                town.client.clone(),
                day,
                Rng::of(seed, person + 100),
            ))
        })
        .collect();
    let disturbed = disturb(platform, &shared, seed, wall).await;
    shared.stop.cancel();
    for person in people {
        person.await?;
    }
    let (injected, recovery) = disturbed?;
    let quiet_from = Instant::now();
    let mut report = Report { seed, recovery, ..Report::default() };
    report.faults = injected.into_iter().map(|done| (done.fault.name(), done.detail)).collect();
    town.world = std::mem::take(&mut locked(&shared.world));
    let mut log = std::mem::take(&mut *locked(&shared.log));
    count(&mut report, &log, shared.looks.load(Ordering::Relaxed));
    let fresh = town.log.len();
    town.log.append(&mut log);
    if let Err(e) = platform.await_ready(QUIET).await {
        report.violations.push(Violation::new("ready", e.to_string()));
    }
    resolve(town, quiet_from).await;
    replay(town, fresh, seed).await;
    report.violations.extend(look(platform, town).await?);
    report.quiet_s = quiet_from.elapsed().as_secs_f64();
    report.took_s = began.elapsed().as_secs_f64();
    Ok(report)
}

fn count(report: &mut Report, log: &[(Instant, Request)], looks: u64) {
    for (_, request) in log {
        let name = if request.bad { "bad input" } else { request.kind.name() };
        for answer in &request.answers {
            let said = match answer {
                None => "lost".to_owned(),
                Some(answer) if answer.is_success() => answer.status.to_string(),
                Some(answer) => format!("{} {}", answer.status, answer.code()),
            };
            *report.operations.entry((name.to_owned(), said)).or_insert(0) += 1;
        }
    }
    if looks > 0 {
        report.operations.insert(("find bill".to_owned(), "200".to_owned()), looks);
    }
}

/// One person's work until it is stopped.
async fn work(shared: Arc<Shared>, client: Client, mut day: Day, mut rng: Rng) {
    let mut next = Instant::now() + PACE.mul_f64(rng.below(100) as f64 / 100.0);
    while !shared.stop.is_cancelled() {
        tokio::time::sleep_until(next.into()).await;
        day.gateway_silent = shared.mood.gateway_silent.load(Ordering::Relaxed);
        let act = {
            let world = locked(&shared.world);
            day.next(&world)
        };
        let answered = match act {
            Act::FindBill(appointment) => {
                let found = client.get(2, &format!("/bills?appointmentId={appointment}")).await;
                let found = found.filter(|answer| answer.status == 200);
                if let Some(answer) = &found {
                    locked(&shared.world).learn_bill(appointment, answer);
                    shared.looks.fetch_add(1, Ordering::Relaxed);
                }
                found.is_some()
            }
            Act::Ask(requests) => {
                let leaves = shared.mood.leaves.load(Ordering::Relaxed);
                let asked = requests.into_iter().map(|(request, times)| {
                    let patience = if leaves && rng.percent(70) {
                        Duration::from_millis(rng.below(21))
                    } else {
                        PATIENCE
                    };
                    ask(&client, request, times, patience)
                });
                let done = join_all(asked.collect::<Vec<_>>()).await;
                let mut world = locked(&shared.world);
                done.iter().for_each(|request| world.learn(request));
                drop(world);
                let answered = done.iter().all(Request::is_answered);
                locked(&shared.log).extend(done.into_iter().map(|done| (shared.began, done)));
                answered
            }
        };
        if answered {
            locked(&shared.good).push(shared.began.elapsed().as_secs_f64());
        }
        next = (next + PACE).max(Instant::now());
    }
}

/// Sends a request so often at once, and once more if no answer came of it and it has a key.
async fn ask(client: &Client, mut request: Request, times: u32, patience: Duration) -> Request {
    let sent = join_all((0..times).map(|_| client.send(&request, patience))).await;
    request.answers.extend(sent);
    if request.keyed && !request.is_answered() {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let again = client.send(&request, PATIENCE).await;
        request.answers.push(again);
    }
    request
}

type Disturbed = (Vec<Injected>, Option<(Fault, f64, f64)>);

/// Injects what the seed orders; for a fault that is alone, waits until all goes as before.
async fn disturb(
    platform: &Platform,
    shared: &Shared,
    seed: u64,
    wall: Timestamp,
) -> anyhow::Result<Disturbed> {
    tokio::time::sleep(BEFORE).await;
    let injector =
        |stream: u64| Injector { platform, mood: &shared.mood, rng: Rng::of(seed, 1000 + stream) };
    match Order::of(seed) {
        Order::Alone(fault) => {
            let done = injector(0).inject(fault).await?;
            let recovery = recover(platform, shared, &done, wall).await;
            Ok((vec![done], Some(recovery)))
        }
        Order::Together(all) => {
            let injected = join_all((0..).zip(all).map(|(stream, (after_ms, fault))| async move {
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
                injector(stream).inject(fault).await
            }));
            let injected: Vec<Injected> = injected.await.into_iter().collect::<Result<_, _>>()?;
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok((injected, None))
        }
    }
}

/// Waits until requests and events go as before; what did not in time is given as that time.
async fn recover(
    platform: &Platform,
    shared: &Shared,
    done: &Injected,
    wall: Timestamp,
) -> (Fault, f64, f64) {
    // The first moments are those of people who just came.
    let (from, to) = (0.2, BEFORE.as_secs_f64());
    let fault = done.counts_from.duration_since(shared.began).as_secs_f64();
    let (mut requests, mut events) = (None, None);
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = shared.began.elapsed().as_secs_f64();
        let mut good = locked(&shared.good).clone();
        good.sort_by(f64::total_cmp);
        let earlier = recovery::rate(&good, from, to);
        requests = requests.or_else(|| recovery::recovered(&good, earlier, fault, now));
        if events.is_none() && requests.is_some() {
            let seen = flowing(platform, wall).await.unwrap_or_default();
            events = recovery::flows(&seen, fault, now);
        }
        let limit = RECOVERY_PATIENCE.as_secs_f64();
        if (requests.is_some() && events.is_some()) || now - fault > limit {
            return (done.fault, requests.unwrap_or(limit), events.unwrap_or(limit));
        }
    }
}

/// The events of this round, by consumer, with times in seconds since it began.
async fn flowing(platform: &Platform, wall: Timestamp) -> anyhow::Result<Vec<Flow>> {
    const FLOWS: &str = "
        SELECT extract(epoch FROM o.created_at - $1)::float8, extract(epoch FROM i.received_at - o.created_at)::float8
        FROM (SELECT event_id, topic, created_at FROM patient.outbox WHERE created_at > $1
              UNION ALL SELECT event_id, topic, created_at FROM appointment.outbox WHERE created_at > $1
              UNION ALL SELECT event_id, topic, created_at FROM billing.outbox WHERE created_at > $1) o
        JOIN unnest($2::text[], $3::text[]) AS c (consumer, topic) USING (topic)
        LEFT JOIN (SELECT consumer, event_id, received_at FROM billing.inbox
                   UNION ALL SELECT consumer, event_id, received_at FROM notification.inbox) i
            ON i.consumer = c.consumer AND i.event_id = o.event_id";
    let read = |(_, group, topics): &(usize, &'static str, &[&'static str])| {
        topics.iter().map(|topic| (*group, *topic)).collect::<Vec<_>>()
    };
    let (consumers, topics): (Vec<&str>, Vec<&str>) = GROUPS.iter().flat_map(read).unzip();
    let client = platform.database.connect().await?;
    let rows = client.query(FLOWS, &[&wall, &consumers, &topics]).await?;
    Ok(rows.iter().map(|row| Flow { committed: row.get(0), took: row.get(1) }).collect())
}

/// Asks again, under the same keys, until everything has an answer. What a card's reconciler still holds is left for later.
async fn resolve(town: &mut Town, from: Instant) {
    loop {
        let open: Vec<usize> = (0..town.log.len())
            .filter(|i| town.log[*i].1.keyed && town.log[*i].1.outcome() == Outcome::Open)
            .collect();
        if open.is_empty() || from.elapsed() > QUIET {
            return;
        }
        let client = &town.client;
        let asked =
            stream::iter(open.iter().map(|i| (*i, town.log[*i].1.clone())))
                .map(|(i, request)| async move {
                    (i, client.send(&request, Duration::from_secs(4)).await)
                })
                .buffer_unordered(8);
        let answers: Vec<_> = asked.collect().await;
        for (i, answer) in answers {
            town.log[i].1.answers.push(answer);
            let request = &town.log[i].1;
            town.world.learn(request);
        }
        let waits = |i: &usize| {
            let (_, request) = &town.log[*i];
            request.kind != Kind::PayCard || from.elapsed() < Duration::from_secs(1)
        };
        let mut still = open.iter().filter(|i| town.log[**i].1.outcome() == Outcome::Open);
        if !still.any(waits) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Asks again for some of what was accepted in this round: I9 and I20.
async fn replay(town: &mut Town, fresh: usize, seed: u64) {
    let mut accepted: Vec<usize> = (fresh..town.log.len())
        .filter(|i| town.log[*i].1.keyed)
        .filter(|i| matches!(town.log[*i].1.outcome(), Outcome::Accepted(_)))
        .collect();
    Rng::of(seed, 50).shuffle(&mut accepted);
    accepted.truncate(25);
    let client = &town.client;
    let asked = accepted.iter().map(|i| {
        let request = &town.log[*i].1;
        async move { (*i, client.send(request, Duration::from_secs(4)).await) }
    });
    for (i, answer) in join_all(asked).await {
        town.log[i].1.answers.push(answer);
    }
}

/// `hospital verify`, and what only the log can say.
async fn look(platform: &Platform, town: &Town) -> anyhow::Result<Vec<Violation>> {
    let mut found = verified(&platform.verify().await?);
    let facts = Facts::read(&platform.database.connect().await?).await?;
    let log: Vec<Request> = town.log.iter().map(|(_, request)| request.clone()).collect();
    found.extend(judge(&log, &facts));
    for (began, request) in &town.log {
        let patience = if request.kind == Kind::PayCard { SETTLED_AFTER } else { QUIET };
        if request.keyed
            && request.outcome() == Outcome::Open
            && (request.kind != Kind::PayCard || began.elapsed() > patience)
        {
            let said = format!("{} {} has no answer yet", request.kind.name(), request.key);
            found.push(Violation::new("I20", said));
        }
    }
    for service in platform.services.iter() {
        found.extend(service.surprises().into_iter().map(|said| Violation::new("ended", said)));
        if let Some((descriptors, megabytes)) = service.size()
            && (descriptors > 400 || megabytes > 400)
        {
            let said = format!("{} has {descriptors} descriptors, {megabytes} MB", service.name());
            found.push(Violation::new("I15", said));
        }
    }
    Ok(found)
}

/// What `hospital verify` found.
fn verified(said: &serde_json::Value) -> Vec<Violation> {
    let invariants = said["invariants"].as_array().map_or(&[][..], Vec::as_slice);
    let of = |verdict: &serde_json::Value| {
        let id = verdict["id"].as_str().unwrap_or("?").to_owned();
        let all = verdict["violations"].as_array().cloned().unwrap_or_default();
        all.into_iter()
            .map(move |what| Violation::new(id.clone(), what.as_str().unwrap_or_default()))
            .collect::<Vec<_>>()
    };
    invariants.iter().flat_map(of).collect()
}
