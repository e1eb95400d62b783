//! Durable jobs: done once, taken over from the dead, tried again, given up with a reason.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::pending,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, join_all};
use hospital_kit::{
    cause::Cause,
    clock::Clock,
    db::{Db, DbSettings, Tx},
    jobs::{self, Backoff, Handler, Job, Kind, NewJob, Verdict, Worker},
};
use hospital_testkit::{TestDb, eventually, eventually_within};
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::support::schema;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    number: u32,
}

type Work = Arc<dyn Fn(Job<Told>) -> BoxFuture<'static, Verdict> + Send + Sync>;

/// Does with each job of a batch what the test says.
struct Scripted {
    work: Work,
    batches: Arc<Mutex<Vec<usize>>>,
}

impl Handler for Scripted {
    type Payload = Told;

    const KIND: Kind<Told> = Kind::new("test.told")
        .batch_max(10)
        .lease(Duration::from_secs(1))
        .attempts_max(Some(3))
        .backoff(Backoff { first: Duration::from_millis(100), max: Duration::from_millis(250) });

    async fn work(&self, jobs: Vec<Job<Told>>) -> Vec<Verdict> {
        self.batches.lock().unwrap().push(jobs.len());
        join_all(jobs.into_iter().map(|job| (self.work)(job))).await
    }
}

/// A worker of a process of its own, as far as the database can tell.
struct Process {
    run: JoinHandle<()>,
    stop: CancellationToken,
    batches: Arc<Mutex<Vec<usize>>>,
}

impl Process {
    fn start(
        db: &Db,
        work: impl Fn(Job<Told>) -> BoxFuture<'static, Verdict> + Send + Sync + 'static,
    ) -> Self {
        let (stop, batches) = (CancellationToken::new(), Arc::default());
        let handler = Scripted { work: Arc::new(work), batches: Arc::clone(&batches) };
        let run = tokio::spawn(jobs::run(db.clone(), Worker::new(handler), stop.clone()));
        Self { run, stop, batches }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.run.await.unwrap();
    }
}

/// What was begun: keys and attempts, in order, with the time of each.
#[derive(Clone, Default)]
struct Begun(Arc<Mutex<Vec<(String, u32, Instant)>>>);

impl Begun {
    fn note(&self, job: &Job<Told>) {
        self.0.lock().unwrap().push((job.key.clone(), job.attempts, Instant::now()));
    }

    fn all(&self) -> Vec<(String, u32)> {
        self.0.lock().unwrap().iter().map(|(key, attempts, _)| (key.clone(), *attempts)).collect()
    }

    fn pauses(&self) -> Vec<Duration> {
        self.0.lock().unwrap().windows(2).map(|two| two[1].2 - two[0].2).collect()
    }

    /// Notes what it is given and is done with it.
    fn done(&self) -> impl Fn(Job<Told>) -> BoxFuture<'static, Verdict> + Send + Sync + 'static {
        self.says(|_| Verdict::Done)
    }

    /// Notes what it is given and is done with it when the gate is opened.
    fn done_when(
        &self,
        gate: &Arc<Notify>,
    ) -> impl Fn(Job<Told>) -> BoxFuture<'static, Verdict> + Send + Sync + use<> {
        let (begun, gate) = (self.clone(), Arc::clone(gate));
        move |job| {
            begun.note(&job);
            let gate = Arc::clone(&gate);
            Box::pin(async move {
                gate.notified().await;
                Verdict::Done
            })
        }
    }

    fn says(
        &self,
        verdict: impl Fn(&Job<Told>) -> Verdict + Send + Sync + 'static,
    ) -> impl Fn(Job<Told>) -> BoxFuture<'static, Verdict> + Send + Sync + 'static {
        let begun = self.clone();
        move |job| {
            begun.note(&job);
            let verdict = verdict(&job);
            Box::pin(async move { verdict })
        }
    }
}

/// Another process of the service: a pool and a clock of its own.
fn process(db: &TestDb) -> Db {
    let settings = DbSettings::new(db.url_as("hospital_kit", "secret"), "kit");
    Db::new(&settings, Clock::system()).unwrap()
}

async fn enqueue(db: &Db, new: Vec<NewJob<Told>>) {
    let enqueued = db.write("test", async move |tx: &mut Tx<Infallible>| {
        jobs::enqueue(tx, &Cause::system("test"), &Scripted::KIND, &new);
        Ok(())
    });
    enqueued.await.unwrap();
}

fn job(key: &str) -> NewJob<Told> {
    NewJob::new(key, Told { number: 7 })
}

async fn left(db: &TestDb) -> i64 {
    db.value("SELECT count(*) FROM kit.job").await.unwrap()
}

async fn until_none_is_left(db: &TestDb) {
    eventually("all jobs to be done", async || (left(db).await == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_workers_do_each_job_exactly_once() {
    let (db, pool) = schema().await;
    let begun = Begun::default();
    let workers: Vec<Process> =
        (0..4).map(|_| Process::start(&process(&db), begun.done())).collect();
    for hundred in 0..4 {
        let new = (0..100).map(|n| job(&format!("{hundred}-{n}")));
        enqueue(&pool, new.collect()).await;
    }
    until_none_is_left(&db).await;
    let mut times: HashMap<String, usize> = HashMap::new();
    begun.all().into_iter().for_each(|(key, _)| *times.entry(key).or_default() += 1);
    assert_eq!((times.len(), times.values().max()), (400, Some(&1)));
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_job_of_a_process_that_died_is_done_by_another_when_the_lease_ends() {
    let (db, pool) = schema().await;
    let begun = Begun::default();
    let noted = begun.clone();
    let dying = Process::start(&pool, move |job| {
        noted.note(&job);
        Box::pin(pending())
    });
    enqueue(&pool, vec![job("a")]).await;
    eventually("it to be begun", async || (!begun.all().is_empty()).then_some(())).await;
    dying.run.abort();
    let other = process(&db);
    let living = Process::start(&other, begun.done());
    until_none_is_left(&db).await;
    assert_eq!(begun.all(), [("a".to_owned(), 1), ("a".to_owned(), 2)]);
    assert!(begun.pauses()[0] >= Duration::from_millis(600), "{:?}", begun.pauses());
    living.stop().await;
}

#[tokio::test]
async fn only_who_has_the_lease_says_what_became_of_a_job() {
    let (db, pool) = schema().await;
    let (begun, gate) = (Begun::default(), Arc::new(Notify::new()));
    let slow = Process::start(&pool, begun.done_when(&gate));
    enqueue(&pool, vec![job("a")]).await;
    eventually("it to be begun", async || (!begun.all().is_empty()).then_some(())).await;
    // As another does who believes that the first is dead.
    let taken = "UPDATE kit.job SET lease = gen_random_uuid(), attempts = 2,
                        held_until = now() + interval '1 hour'";
    db.execute(taken).await.unwrap();
    gate.notify_one();
    slow.stop().await;
    let kept: bool =
        db.value("SELECT lease IS NOT NULL AND attempts = 2 FROM kit.job").await.unwrap();
    assert!(kept);
}

#[tokio::test]
async fn what_takes_longer_than_its_lease_is_kept_from_others_meanwhile() {
    let (db, pool) = schema().await;
    let begun = Begun::default();
    let noted = begun.clone();
    let slowly = move |job: Job<Told>| -> BoxFuture<'static, Verdict> {
        noted.note(&job);
        Box::pin(async move {
            // Longer than the lease: the passing of time is what is tested.
            tokio::time::sleep(Duration::from_millis(2500)).await;
            Verdict::Done
        })
    };
    let first = Process::start(&pool, slowly.clone());
    let second = Process::start(&process(&db), slowly);
    enqueue(&pool, vec![job("a")]).await;
    until_none_is_left(&db).await;
    assert_eq!(begun.all(), [("a".to_owned(), 1)]);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn what_fails_is_tried_again_after_growing_pauses_and_is_dead_in_the_end_with_the_reason() {
    let (db, pool) = schema().await;
    let begun = Begun::default();
    let worker =
        Process::start(&pool, begun.says(|job| Verdict::again(format!("no. {}", job.attempts))));
    enqueue(&pool, vec![job("a")]).await;
    eventually("it to be dead", async || {
        let dead = "SELECT EXISTS (SELECT FROM kit.job WHERE died_at IS NOT NULL)";
        db.value::<bool>(dead).await.unwrap().then_some(())
    })
    .await;
    let stood: String =
        db.value("SELECT concat(attempts, ' ', reason) FROM kit.job").await.unwrap();
    assert_eq!((stood.as_str(), begun.all().len()), ("3 no. 3", 3));
    let pauses = begun.pauses();
    assert!(pauses[0] >= Duration::from_millis(100), "{pauses:?}");
    assert!(pauses[1] >= Duration::from_millis(200), "{pauses:?}");
    // Asked for again, it begins anew.
    enqueue(&pool, vec![job("a")]).await;
    eventually("a fourth attempt", async || (begun.all().len() > 3).then_some(())).await;
    assert_eq!(begun.all()[3], ("a".to_owned(), 1));
    worker.stop().await;
}

#[tokio::test]
async fn a_job_that_nobody_survives_is_dead_after_its_attempts() {
    let (db, pool) = schema().await;
    enqueue(&pool, vec![job("a")]).await;
    let lost = "UPDATE kit.job SET attempts = 3, lease = gen_random_uuid()";
    db.execute(lost).await.unwrap();
    let begun = Begun::default();
    let worker = Process::start(&pool, begun.done());
    let reason = eventually("it to be dead", async || {
        let dead = "SELECT max(reason) FROM kit.job WHERE died_at IS NOT NULL";
        db.value::<Option<String>>(dead).await.unwrap()
    })
    .await;
    assert!(reason.contains("died"), "{reason}");
    assert!(begun.all().is_empty());
    worker.stop().await;
}

#[tokio::test]
async fn a_job_that_is_enqueued_twice_is_done_once_as_it_was_said_last() {
    let (db, pool) = schema().await;
    enqueue(&pool, vec![job("a").after(Duration::from_secs(3600)), job("b")]).await;
    enqueue(&pool, vec![NewJob::new("a", Told { number: 8 })]).await;
    let (begun, numbers) = (Begun::default(), Arc::new(Mutex::new(Vec::new())));
    let told = Arc::clone(&numbers);
    let worker = Process::start(
        &pool,
        begun.says(move |job| {
            told.lock().unwrap().push((job.key.clone(), job.payload.number));
            Verdict::Done
        }),
    );
    until_none_is_left(&db).await;
    let mut numbers = numbers.lock().unwrap().clone();
    numbers.sort();
    assert_eq!(numbers, [("a".to_owned(), 8), ("b".to_owned(), 7)]);
    worker.stop().await;
}

#[tokio::test]
async fn what_is_asked_for_again_while_it_is_worked_on_is_done_again_afterwards() {
    let (db, pool) = schema().await;
    let (begun, gate) = (Begun::default(), Arc::new(Notify::new()));
    let worker = Process::start(&pool, begun.done_when(&gate));
    enqueue(&pool, vec![job("a")]).await;
    eventually("it to be begun", async || (begun.all().len() == 1).then_some(())).await;
    enqueue(&pool, vec![job("a")]).await;
    assert_eq!(begun.all().len(), 1, "not beside it");
    gate.notify_one();
    eventually("it to be begun again", async || (begun.all().len() == 2).then_some(())).await;
    gate.notify_one();
    until_none_is_left(&db).await;
    assert_eq!(begun.all(), [("a".to_owned(), 1), ("a".to_owned(), 1)]);
    worker.stop().await;
}

/// Somebody asks again at the very moment at which the outcome is written down.
#[tokio::test]
async fn what_is_asked_for_again_at_the_last_moment_is_not_lost() {
    let (db, pool) = schema().await;
    let (begun, gate) = (Begun::default(), Arc::new(Notify::new()));
    let worker = Process::start(&pool, begun.done_when(&gate));
    enqueue(&pool, vec![job("a")]).await;
    eventually("it to be begun", async || (begun.all().len() == 1).then_some(())).await;
    let asking = crate::support::session(&db.owner_url()).await;
    asking.batch_execute("BEGIN; UPDATE job SET asked = asked + 1").await.unwrap();
    gate.notify_one();
    crate::support::until_blocked(&db).await;
    asking.batch_execute("COMMIT").await.unwrap();
    gate.notify_one();
    eventually("it to be begun again", async || (begun.all().len() == 2).then_some(())).await;
    until_none_is_left(&db).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_job_is_due_by_the_services_clock_and_a_pause_by_the_time_that_passes() {
    let (db, pool) = schema().await;
    let begun = Begun::default();
    let worker = Process::start(&pool, begun.done());
    let hour = Duration::from_secs(3600);
    let later = pool.clock().now().checked_add(hour).unwrap();
    enqueue(&pool, vec![job("at").at(later), job("after").after(hour), job("now")]).await;
    eventually("the one that is due", async || (left(&db).await == 2).then_some(())).await;
    pool.clock().advance(hour);
    eventually("the one of the clock", async || (left(&db).await == 1).then_some(())).await;
    // A clock that is wrong does not hold up what is to be done at once.
    pool.clock().step_back(hour * 3);
    enqueue(&pool, vec![job("again").after(Duration::from_millis(50))]).await;
    eventually("the one after a pause", async || (left(&db).await == 1).then_some(())).await;
    let keys: Vec<String> = begun.all().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["now", "at", "again"]);
    worker.stop().await;
}

#[tokio::test]
async fn jobs_are_handled_in_batches() {
    let (db, pool) = schema().await;
    enqueue(&pool, (0..25).map(|n| job(&n.to_string())).collect()).await;
    let begun = Begun::default();
    let worker = Process::start(
        &pool,
        begun.says(|job| match job.key.as_str() {
            "3" => Verdict::dead("three"),
            "4" => Verdict::NotYet { after: Duration::from_secs(3600) },
            _ => Verdict::Done,
        }),
    );
    eventually("all but two to be done", async || (left(&db).await == 2).then_some(())).await;
    assert_eq!(*worker.batches.lock().unwrap(), [10, 10, 5]);
    let stood = "SELECT string_agg(concat_ws(' ', key, attempts, reason, died_at IS NOT NULL), ', ' ORDER BY key)
                 FROM kit.job";
    assert_eq!(db.value::<String>(stood).await.unwrap(), "3 1 three t, 4 0 f");
    worker.stop().await;
}

/// Plans are made while a new database has no jobs, and kept.
#[tokio::test]
async fn a_flood_of_jobs_into_a_new_database_is_found_by_an_index() {
    let (db, pool) = schema().await;
    let begun = Begun::default();
    let own = process(&db);
    let worker = Process::start(&own, begun.done());
    enqueue(&pool, vec![job("first")]).await;
    until_none_is_left(&db).await;
    enqueue(&pool, (0..2000).map(|n| job(&n.to_string())).collect()).await;
    // Not by counting the rows: those that are read are counted.
    eventually_within(Duration::from_secs(60), "all to be begun", async || {
        (begun.0.lock().unwrap().len() == 2001).then_some(())
    })
    .await;
    worker.stop().await;
    // Sessions tell what they have read when they end at the latest.
    own.close();
    let read = eventually("the sessions' numbers", async || {
        let read = "SELECT CASE WHEN n_tup_del > 2000 THEN coalesce(idx_tup_fetch, 0) END
                    FROM pg_stat_user_tables WHERE relname = 'job'";
        db.value::<Option<i64>>(read).await.unwrap()
    })
    .await;
    assert!(read < 100_000, "{read} rows were looked at for 2001 jobs");
}

#[tokio::test]
async fn a_job_is_begun_as_soon_as_its_transaction_is_committed() {
    let (db, pool) = schema().await;
    let begun = Begun::default();
    let worker = Process::start(&pool, begun.done());
    let began = Instant::now();
    for n in 0..20 {
        enqueue(&pool, vec![job(&n.to_string())]).await;
        until_none_is_left(&db).await;
    }
    // By looking every half second alone it would be ten.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_stops_gives_back_what_does_not_come_to_an_end() {
    let (db, pool) = schema().await;
    let begun = Begun::default();
    let noted = begun.clone();
    let worker = Process::start(&pool, move |job| {
        noted.note(&job);
        Box::pin(pending())
    });
    enqueue(&pool, vec![job("a")]).await;
    eventually("it to be begun", async || (!begun.all().is_empty()).then_some(())).await;
    worker.stop().await;
    let stood = "SELECT lease IS NULL AND held_until <= now() AND attempts = 0 FROM kit.job";
    assert!(db.value::<bool>(stood).await.unwrap());
    let next = Process::start(&process(&db), begun.done());
    until_none_is_left(&db).await;
    assert_eq!(begun.all(), [("a".to_owned(), 1), ("a".to_owned(), 1)]);
    next.stop().await;
}

#[tokio::test]
async fn a_worker_that_stops_ends_what_it_is_at() {
    let (db, pool) = schema().await;
    let (begun, gate) = (Begun::default(), Arc::new(Notify::new()));
    let worker = Process::start(&pool, begun.done_when(&gate));
    enqueue(&pool, vec![job("a")]).await;
    eventually("it to be begun", async || (!begun.all().is_empty()).then_some(())).await;
    worker.stop.cancel();
    gate.notify_one();
    worker.run.await.unwrap();
    assert_eq!(left(&db).await, 0);
}

#[tokio::test]
async fn a_handler_that_panics_and_a_payload_that_cannot_be_read_stop_nothing() {
    let (db, pool) = schema().await;
    let begun = Begun::default();
    let noted = begun.clone();
    enqueue(&pool, vec![job("unreadable")]).await;
    db.execute("UPDATE kit.job SET payload = '{\"text\": \"seven\"}'").await.unwrap();
    let worker = Process::start(&pool, move |job| {
        noted.note(&job);
        assert!(job.attempts > 1, "as a defect does");
        Box::pin(async { Verdict::Done })
    });
    enqueue(&pool, vec![job("a")]).await;
    eventually("only the unreadable one to be left", async || {
        let only = "SELECT count(*) = 1 AND bool_and(died_at IS NOT NULL) FROM kit.job";
        db.value::<bool>(only).await.unwrap().then_some(())
    })
    .await;
    assert_eq!(begun.all(), [("a".to_owned(), 1), ("a".to_owned(), 2)]);
    let reason: String = db.value("SELECT reason FROM kit.job").await.unwrap();
    assert_eq!(reason, "its payload is not what this kind of job takes");
    worker.stop().await;
}

#[tokio::test]
async fn what_is_rolled_back_or_cancelled_is_not_done() {
    let (db, pool) = schema().await;
    enqueue(&pool, vec![job("a").after(Duration::from_secs(3600)), job("b")]).await;
    let cancelled = pool.write("test", async |tx: &mut Tx<Infallible>| {
        jobs::cancel(tx, &Scripted::KIND, vec!["b".to_owned(), "none".to_owned()]);
        Ok(())
    });
    cancelled.await.unwrap();
    let rolled_back = pool.write("test", async |tx: &mut Tx<Infallible>| {
        jobs::enqueue(tx, &Cause::system("test"), &Scripted::KIND, &[job("c")]);
        tx.flush().await?;
        Err::<(), _>(hospital_kit::outcome::Broken::defect("a test", "on purpose").into())
    });
    rolled_back.await.unwrap_err();
    let keys: String = db.value("SELECT string_agg(key, ' ') FROM kit.job").await.unwrap();
    assert_eq!(keys, "a");
}
