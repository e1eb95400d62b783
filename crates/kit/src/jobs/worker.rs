//! Takes jobs that are due, has them worked on, and writes down what became of them.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    Job, Verdict, Worker,
    handler::Settings,
    queue::{self, End, Held, Recorded},
};
use crate::{
    backoff::{Backoff, jittered},
    db::Db,
};

/// How long it sleeps at most: jobs that another process has enqueued are seen by then. NOTIFY
/// would tell at once, but every commit with one waits for the commits of all others with one.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// How long it sleeps at least: what is due may be another process's at this moment.
const SLEEP_MIN: Duration = Duration::from_millis(5);

/// How long a handler that is at work when the process stops may go on.
const GRACE: Duration = Duration::from_secs(5);

/// Works on the jobs of one kind until told to stop, beside whoever does so in other processes.
pub async fn run(db: Db, worker: Worker, stop: CancellationToken) {
    let Settings { name, batch_max, lease, .. } = worker.settings;
    let enqueued = db.jobs_enqueued(name);
    let mut failures = 0;
    while !stop.is_cancelled() {
        let pause = match queue::claim(&db, name, batch_max, lease).await {
            Ok(claimed) if claimed.jobs.is_empty() => {
                failures = 0;
                claimed.next_in.map_or(SLEEP_MAX, |next| next.clamp(SLEEP_MIN, SLEEP_MAX))
            }
            Ok(claimed) => {
                failures = 0;
                work(&db, &worker, claimed.jobs, &stop).await;
                continue;
            }
            Err(e) => {
                failures += 1;
                tracing::warn!(kind = name, error = %e, "jobs cannot be taken at the moment");
                Backoff::UNREACHABLE.pause(failures)
            }
        };
        tokio::select! {
            () = enqueued.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Has jobs worked on and writes down what became of them. When the process stops and the handler
/// does not come to an end, they are given back.
async fn work(db: &Db, worker: &Worker, jobs: Vec<Job<Value>>, stop: &CancellationToken) {
    let settings = worker.settings;
    let Some(lease) = jobs.first().map(|job| job.lease) else { return };
    let keys = jobs.iter().map(|job| job.key.clone()).collect();
    let held = Held { kind: settings.name, lease, keys };
    let began = Instant::now();
    let (spent, jobs): (Vec<_>, Vec<_>) =
        jobs.into_iter().partition(|job| is_spent(settings, job.attempts));
    let mut ends: Vec<Recorded> = spent.iter().map(died_on_somebody).collect();
    let taken: Vec<(String, u32, i32)> =
        jobs.iter().map(|job| (job.key.clone(), job.attempts, job.asked)).collect();
    if !jobs.is_empty() {
        let verdicts = tokio::select! {
            verdicts = worker.handler.work(jobs) => verdicts,
            never = keep(db, &held, settings.lease) => match never {},
            () = out_of_time(stop) => {
                give_back(db, &held).await;
                return;
            }
        };
        ends.extend(taken.into_iter().zip(verdicts).map(|((key, attempts, asked), verdict)| {
            Recorded { end: end(settings, &key, attempts, verdict), key, asked }
        }));
    }
    metrics::histogram!("job_duration_seconds", "kind" => settings.name)
        .record(began.elapsed().as_secs_f64());
    for one in &ends {
        note(settings.name, one);
    }
    write_down(db, &held, settings, &ends).await;
}

/// Whether a job has had all of its attempts and nobody could say what became of the last one.
fn is_spent(settings: Settings, attempts: u32) -> bool {
    settings.attempts_max.is_some_and(|max| attempts > max)
}

fn died_on_somebody(job: &Job<Value>) -> Recorded {
    let because = "whoever worked on it died, or lost it, at the last attempt".to_owned();
    Recorded { key: job.key.clone(), asked: job.asked, end: End::Dead { because } }
}

/// What a verdict means for a job after so many attempts.
fn end(settings: Settings, key: &str, attempts: u32, verdict: Verdict) -> End {
    match verdict {
        Verdict::Done => End::Done,
        Verdict::NotYet { after } => End::Later { after, because: None, counts: false },
        Verdict::Dead { because } => End::Dead { because },
        Verdict::Again { because, .. }
            if settings.attempts_max.is_some_and(|max| attempts >= max) =>
        {
            End::Dead { because }
        }
        Verdict::Again { after, because } => {
            let pause = after.unwrap_or_else(|| settings.backoff.pause(attempts));
            let after = jittered(pause, key, attempts);
            End::Later { after, because: Some(because), counts: true }
        }
    }
}

fn note(kind: &'static str, one: &Recorded) {
    let end = match &one.end {
        End::Done => "done",
        End::Later { counts: false, .. } => "not-yet",
        End::Later { because, .. } => {
            tracing::info!(kind, key = one.key, because, "a job is tried again later");
            "again"
        }
        End::Dead { because } => {
            tracing::warn!(kind, key = one.key, because, "a job is dead");
            "dead"
        }
    };
    metrics::counter!("job_attempts_total", "kind" => kind, "end" => end).increment(1);
}

/// Keeps jobs from others for as long as they are worked on.
async fn keep(db: &Db, held: &Held, lease: Duration) -> Infallible {
    loop {
        tokio::time::sleep(lease / 3).await;
        if let Err(e) = queue::renew(db, held, lease).await {
            tracing::warn!(kind = held.kind, error = %e, "others may take jobs that are worked on");
        }
    }
}

async fn out_of_time(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

async fn give_back(db: &Db, held: &Held) {
    if let Err(e) = queue::release(db, held).await {
        tracing::warn!(kind = held.kind, error = %e, "jobs wait until their lease ends");
    }
}

/// Tries for as long as the lease may last; after that somebody else may be at the jobs.
async fn write_down(db: &Db, held: &Held, settings: Settings, ends: &[Recorded]) {
    let (began, mut tries) = (Instant::now(), 0);
    while let Err(e) = queue::record(db, held.kind, held.lease, ends).await {
        tries += 1;
        if began.elapsed() >= settings.lease {
            tracing::warn!(kind = held.kind, error = %e, "what became of jobs is not written down");
            return;
        }
        tokio::time::sleep(Backoff::UNREACHABLE.pause(tries)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        name: "test",
        batch_max: 1,
        lease: Duration::from_secs(30),
        attempts_max: Some(3),
        backoff: Backoff { first: Duration::from_secs(10), max: Duration::from_secs(60) },
    };

    #[test]
    fn the_last_attempt_that_fails_is_the_end() {
        let again = |attempts| end(SETTINGS, "k", attempts, Verdict::again("no answer"));
        let End::Later { after, because, counts } = again(2) else { panic!("{:?}", again(2)) };
        assert!(after >= Duration::from_secs(20) && after <= Duration::from_secs(22), "{after:?}");
        assert_eq!((because.as_deref(), counts), (Some("no answer"), true));
        assert_eq!(again(3), End::Dead { because: "no answer".to_owned() });
        let never = Settings { attempts_max: None, ..SETTINGS };
        let end = end(never, "k", 1000, Verdict::again("no answer"));
        assert!(matches!(end, End::Later { .. }), "{end:?}");
    }

    #[test]
    fn the_handlers_own_pause_comes_before_the_backoff() {
        let said = Verdict::again_after(Duration::from_secs(2), "it is at work");
        let End::Later { after, .. } = end(SETTINGS, "k", 1, said) else { panic!("not later") };
        assert!(after >= Duration::from_secs(2) && after <= Duration::from_millis(2200));
    }
}
