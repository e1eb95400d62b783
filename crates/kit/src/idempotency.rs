//! The door for HTTP writes: a repeated `Idempotency-Key` gets the first answer again and changes nothing.
//!
//! Rules: docs/rules.md, K1 to K7, which follow the IETF draft "The Idempotency-Key HTTP Header
//! Field" and what Stripe adds to it. The key is claimed in the transaction of the change, so a
//! crash before the commit leaves nothing and a retry is safe. Successes and deterministic refusals
//! are remembered; malformed requests, 401, 403, 412, 429 and 5xx never.

mod together;

use std::{convert::Infallible, future::Future, time::Duration};

use hospital_types::{Refusal, RefusalKind};
use sha2::{Digest, Sha256};
use tokio_postgres::{Row, types::Json};

pub use self::together::{Joint, Member, Together};
use crate::{
    cause::Cause,
    db::{Db, Reader, Statement, Tx},
    http::{Answer, Problem, Trace},
    outcome::{Broken, BrokenKind, Failure, Outcome},
    sql,
};

/// A request that writes, as this door needs to know it.
#[derive(Clone, Debug)]
pub struct Request {
    /// What the command is called, such as `payment.take`.
    pub name: &'static str,
    pub cause: Cause,
    /// The client's key, if it sent one.
    pub key: Option<String>,
    /// Method and route template, such as `POST /payments`: with the caller, the scope of the key.
    pub route: String,
    /// SHA-256 of the concrete path and the canonical body.
    pub fingerprint: [u8; 32],
}

/// How a refusal becomes a problem when saying it takes another look, such as at the free times beside a taken one.
pub trait Explain: Refusal + Sized {
    fn explain(self, _reader: Reader<'_>) -> impl Future<Output = Problem> + Send {
        async move { Problem::from_refusal(&self) }
    }
}

impl Explain for Infallible {}

/// How a claimed piece of work came out.
pub enum Once<T> {
    /// It was done now. Its answer was stored if there was one.
    Fresh(T, Option<Answer>),
    /// It was done before, or refused, or is still running: this is the answer.
    Answered(Answer),
}

/// Does the work once per caller, route and key, and answers; a repetition gets the stored answer.
pub async fn once<T, R: Explain>(
    db: &Db,
    request: Request,
    answer: impl FnOnce(&T) -> Answer,
    work: impl AsyncFnOnce(&mut Tx<R>) -> Outcome<T, R>,
) -> Answer {
    match claim(db, request, |done| Some(answer(done)), work).await {
        Once::Fresh(_, Some(answer)) | Once::Answered(answer) => answer,
        Once::Fresh(_, None) => unreachable!("the answer was given above"),
    }
}

/// Like [`once`], for work that is finished later: while `answer` gives none, repetitions are told that the first is still running,
/// until [`remember`] stores one.
pub async fn claim<T, R: Explain>(
    db: &Db,
    request: Request,
    answer: impl FnOnce(&T) -> Option<Answer>,
    work: impl AsyncFnOnce(&mut Tx<R>) -> Outcome<T, R>,
) -> Once<T> {
    match attempt(db, &request, answer, work).await {
        Ok(done) => done,
        Err(Failure::Refused(Claimed::Repeated)) => {
            Once::Answered(await_stored(db, &request).await)
        }
        Err(Failure::Refused(Claimed::Refused(refused))) => {
            // What a caller may do and which version they saw can change under the same key, which says neither.
            let lasts = !matches!(refused.kind(), RefusalKind::Forbidden | RefusalKind::Stale);
            let trace = request.cause.trace.as_deref().and_then(Trace::id_in);
            let answer =
                Answer::problem(refused.explain(db.reader(&request.cause)).await).traced(trace);
            Once::Answered(if lasts {
                remember_refusal(db, &request, answer).await
            } else {
                answer
            })
        }
        Err(Failure::Broken(broken)) => {
            Once::Answered(match Box::pin(look_back(db, &request, &broken)).await {
                Found::Answer(answer) => answer,
                Found::Nothing | Found::Unknown => Answer::problem(Problem::from(broken)),
            })
        }
    }
}

/// What is found of a request whose outcome was not known.
enum Found {
    Answer(Answer),
    /// It was not done, and nobody is at it any more.
    Nothing,
    /// There is no key to look by, the first is still at work, or the look failed.
    Unknown,
}

/// Looks for the answer of a request whose COMMIT was not answered. The session that sent it may still be at work: it holds the key's
/// lock until its answer can be seen or will never be.
async fn look_back(db: &Db, request: &Request, broken: &Broken) -> Found {
    let Some(key) = request.key.as_ref().filter(|_| broken.kind() == BrokenKind::Unknown) else {
        return Found::Unknown;
    };
    let look = async {
        let mut tx = db.begin::<Infallible>("idempotency.look-back").await?;
        tx.write(sql!("SELECT pg_advisory_xact_lock($1)", lock_of(request, key)));
        let rows = tx.read(stored_query(request, key)).await;
        tx.abandon().await;
        Ok::<_, Failure<Infallible>>(of_row(request, rows?.first()))
    };
    match look.await {
        Ok(Stored::Answer(answer)) => Found::Answer(answer),
        Ok(Stored::Nothing) => Found::Nothing,
        Ok(Stored::Running) | Err(_) => Found::Unknown,
    }
}

/// The stored answer of a repetition, or `problem`: for what fails before the door, such as the check of a patient while the patient
/// service is away. The first answer counts even then.
pub async fn stored_or(db: &Db, request: &Request, problem: Problem) -> Answer {
    match stored(db, request).await {
        Ok(Stored::Answer(answer)) => answer,
        // That the look failed changes nothing for the client: the problem is what there is to say.
        Ok(Stored::Nothing | Stored::Running) | Err(_) => Answer::problem(problem),
    }
}

/// Queues the answer of a request whose work was finished later. The first answer stays.
pub fn remember<R>(tx: &mut Tx<R>, caller: &str, route: &str, key: &str, answer: &Answer) {
    let (status, headers, body) = answer.to_stored();
    tx.write(sql!(
        "UPDATE idempotency SET status = $4, headers = $5, body = $6 WHERE key = $1 AND caller = $2 AND route = $3 AND status IS NULL",
        key.to_owned(),
        caller.to_owned(),
        route.to_owned(),
        status,
        Json(headers),
        body,
    ));
}

/// Forgets what is older than 72 hours, in bounded steps. Gives how many keys went.
pub async fn forget_old(db: &Db) -> Result<usize, Broken> {
    let rows = db
        .write_alone("idempotency.forget", sql!(
            "DELETE FROM idempotency WHERE ctid = ANY (ARRAY(
                 SELECT ctid FROM idempotency WHERE created_at < now() - interval '72 hours' LIMIT 5000))
             RETURNING 1"
        ))
        .await?;
    Ok(rows.len())
}

/// What can stop a claimed piece of work.
enum Claimed<R> {
    /// The key was claimed before, or is being claimed at this moment.
    Repeated,
    Refused(R),
}

async fn attempt<T, R: Explain>(
    db: &Db,
    request: &Request,
    answer: impl FnOnce(&T) -> Option<Answer>,
    work: impl AsyncFnOnce(&mut Tx<R>) -> Outcome<T, R>,
) -> Result<Once<T>, Failure<Claimed<R>>> {
    let mut tx = db.begin::<R>(request.name).await?;
    let claim = request.key.as_ref().map(|key| queue_claim(&mut tx, request, key, None));
    let value = match work(&mut tx).await {
        Ok(value) => value,
        Err(failure) => {
            tx.abandon().await;
            return Err(judge(&tx, failure));
        }
    };
    let answer = answer(&value);
    if let (Some(key), Some(answer), Some(claim)) = (&request.key, &answer, claim) {
        let (status, headers, body) = answer.to_stored();
        // Nothing was read, so the claim is still here and can carry the answer; otherwise the answer goes behind the work.
        if let Some(statement) = tx.unsent(claim) {
            statement.values[5] = Box::new(Some(status));
            statement.values[6] = Box::new(Some(Json(headers)));
            statement.values[7] = Box::new(Some(body));
        } else {
            remember(&mut tx, &request.cause.actor.subject, &request.route, key, answer);
        }
    }
    match tx.commit().await {
        Ok(()) => Ok(Once::Fresh(value, answer)),
        Err(failure) => Err(judge(&tx, failure)),
    }
}

fn judge<R>(tx: &Tx<R>, failure: Failure<R>) -> Failure<Claimed<R>> {
    match tx.violated() {
        Some("idempotency_once" | "idempotency_in_progress") => Failure::Refused(Claimed::Repeated),
        _ => failure.map(Claimed::Refused),
    }
}

/// Queues the claim of a key, first of all; gives its place in the queue. The lock is tried, not awaited: a plain insert of a key that
/// another transaction has just inserted would wait for that transaction.
fn queue_claim<R>(tx: &mut Tx<R>, request: &Request, key: &str, answer: Option<&Answer>) -> usize {
    let stored = answer.map(Answer::to_stored);
    let (status, headers, body) = match stored {
        Some((status, headers, body)) => (Some(status), Some(Json(headers)), Some(body)),
        None => (None, None, None),
    };
    let place = tx.queued();
    tx.write(sql!(
        "INSERT INTO idempotency (caller, route, key, fingerprint, claimed, status, headers, body)
         VALUES ($1, $2, $3, $4, pg_try_advisory_xact_lock($5), $6, $7, $8)",
        request.cause.actor.subject.clone(),
        request.route.clone(),
        key.to_owned(),
        request.fingerprint.to_vec(),
        lock_of(request, key),
        status,
        headers,
        body,
    ));
    place
}

fn lock_of(request: &Request, key: &str) -> i64 {
    let mut hash = Sha256::new();
    for part in [request.cause.actor.subject.as_str(), &request.route, key] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digest = hash.finalize();
    i64::from_be_bytes(digest[..8].try_into().expect("a SHA-256 has 32 bytes"))
}

/// What is stored for a key.
enum Stored {
    Nothing,
    Running,
    Answer(Answer),
}

async fn stored(db: &Db, request: &Request) -> Result<Stored, Broken> {
    let Some(key) = &request.key else { return Ok(Stored::Nothing) };
    let rows = db.reader(&request.cause).read(stored_query(request, key)).await?;
    Ok(of_row(request, rows.first()))
}

fn stored_query(request: &Request, key: &str) -> Statement {
    sql!(
        "SELECT fingerprint, status, headers, body FROM idempotency WHERE key = $1 AND caller = $2 AND route = $3",
        key.to_owned(),
        request.cause.actor.subject.clone(),
        request.route.clone(),
    )
}

fn of_row(request: &Request, row: Option<&Row>) -> Stored {
    let Some(row) = row else { return Stored::Nothing };
    if row.get::<_, &[u8]>(0) != request.fingerprint {
        return Stored::Answer(Answer::problem(Problem::new(
            422,
            "idempotency-key-reused",
            "This Idempotency-Key was used for another request. Take a new key for a new request.",
        )));
    }
    let Some(status) = row.get::<_, Option<i16>>(1) else { return Stored::Running };
    let Json(headers) = row.get(2);
    Stored::Answer(Answer::from_stored(status, headers, row.get(3)).replayed())
}

/// The answer of the first request with this key. It is given a moment to finish, so that a storm of repetitions gets its answer and
/// not a request to come again.
async fn await_stored(db: &Db, request: &Request) -> Answer {
    let deadline = std::time::Instant::now() + Duration::from_secs(1);
    loop {
        match stored(db, request).await {
            Ok(Stored::Answer(answer)) => return answer,
            Ok(Stored::Nothing | Stored::Running) => {}
            Err(broken) => return Answer::problem(Problem::from(broken)),
        }
        if std::time::Instant::now() >= deadline {
            let problem = Problem::new(
                409,
                "idempotency-key-in-progress",
                "The first request with this Idempotency-Key is still running. Ask again in a second.",
            );
            return Answer::problem(problem.retry_after(1));
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

/// Stores a refusal. Should another request with this key have been faster, its answer counts.
async fn remember_refusal(db: &Db, request: &Request, answer: Answer) -> Answer {
    let Some(key) = &request.key else { return answer };
    let stored = async {
        let mut tx = db.begin::<Infallible>(request.name).await?;
        queue_claim(&mut tx, request, key, Some(&answer));
        let committed = tx.commit().await;
        Ok::<_, Failure<Infallible>>(match committed {
            Ok(()) => None,
            Err(failure) => Some(judge(&tx, failure)),
        })
    };
    match stored.await {
        Ok(None) => answer,
        Ok(Some(Failure::Refused(Claimed::Repeated))) => await_stored(db, request).await,
        Ok(Some(_)) | Err(_) => {
            // Nothing was changed and nothing is remembered: a repetition asks the business again.
            tracing::warn!(route = request.route, "a refusal could not be remembered");
            answer
        }
    }
}
