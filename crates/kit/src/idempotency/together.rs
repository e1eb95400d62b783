//! Several commands of one kind in one unit of work: one flight, one flush of the log and one statement per table for all of them.
//!
//! Commands that come while others are under way ride together (see [`Batcher`]). All of them are done or none: a refusal or a defect of
//! one rolls everything back, and then each is done by itself, as if there had been no others. So what one is told never depends on its
//! company, and the door's promises are the same as [`once`]'s. When it is not known whether they were committed, nothing is done again
//! before it is: those with a key are looked up by it, the others are told so.

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio_postgres::types::Json;

use super::{Explain, Found, Request, lock_of, look_back, once};
use crate::{
    batcher::{Batcher, NotBatched},
    db::{Db, Statement, Tx},
    http::{Answer, Problem},
    outcome::{Broken, BrokenKind, Failure, Outcome},
    sql,
};

/// How many flights of one kind are out at a time: while the server works on one, the next is being made.
const FLIGHTS: usize = 2;
/// Beyond this many the rows cost as much as they cost alone, and those in front would wait for those behind.
const SEATS: usize = 32;

/// A command and the request that brought it.
pub struct Member<C> {
    pub request: Request,
    pub cmd: C,
}

/// A kind of command of which several can be done in one unit of work.
pub trait Joint: Send + Sync + 'static {
    type Cmd: Send + Sync + 'static;
    type Done: Send;
    type Refused: Explain + Send;

    /// The unit of work's name, such as `appointment.book`.
    const NAME: &'static str;

    /// What can be refused without looking.
    fn check(cmd: &Self::Cmd, now: Timestamp) -> Result<(), Self::Refused>;

    /// Whether one of these would be refused because of the other, so that they are better not done together.
    fn clash(one: &Self::Cmd, other: &Self::Cmd) -> bool;

    /// Queues the work of all members, in statements that take all of them at once; each row names the cause of its own member. It is not
    /// asynchronous, so it cannot read.
    ///
    /// What it waits for must be locked in one order, whoever the members are, or two flights could wait for each other.
    fn work(
        tx: &mut Tx<Self::Refused>,
        members: &[Member<Self::Cmd>],
    ) -> Outcome<Vec<Self::Done>, Self::Refused>;

    fn answer(done: &Self::Done) -> Answer;
}

/// The door for commands that may ride together.
pub struct Together<J: Joint> {
    db: Db,
    batcher: Arc<Batcher<Member<J::Cmd>, Answer>>,
}

impl<J: Joint> Clone for Together<J> {
    fn clone(&self) -> Self {
        Self { db: self.db.clone(), batcher: Arc::clone(&self.batcher) }
    }
}

impl<J: Joint> Together<J> {
    pub fn new(db: &Db) -> Self {
        let riding = db.clone();
        let batcher = Batcher::new(J::NAME, FLIGHTS, SEATS, apart::<J>, move |members| {
            let db = riding.clone();
            Box::pin(async move { ride::<J>(&db, members).await })
        });
        Self { db: db.clone(), batcher }
    }

    /// Does the command once per caller, route and key, alone or with others, and answers; a repetition gets the stored answer.
    pub async fn once(&self, request: Request, cmd: J::Cmd) -> Answer {
        let member = Member { request, cmd };
        if J::check(&member.cmd, self.db.clock().now()).is_err() {
            return alone::<J>(&self.db, member).await;
        }
        match self.batcher.call(member).await {
            Ok(answer) => answer,
            Err(NotBatched::Conflicts(member)) => alone::<J>(&self.db, member).await,
            Err(NotBatched::Panicked) => {
                Answer::problem(Problem::from(Broken::defect(J::NAME, "its flight was lost")))
            }
        }
    }
}

/// A repetition is for the first to answer.
fn apart<J: Joint>(one: &Member<J::Cmd>, other: &Member<J::Cmd>) -> bool {
    let (a, b) = (&one.request, &other.request);
    let repeats = a.key.is_some()
        && (&a.key, &a.cause.actor.subject, &a.route) == (&b.key, &b.cause.actor.subject, &b.route);
    repeats || J::clash(&one.cmd, &other.cmd)
}

async fn ride<J: Joint>(db: &Db, members: Vec<Member<J::Cmd>>) -> Vec<Answer> {
    if members.len() > 1 {
        match attempt::<J>(db, &members).await {
            Ok(answers) => return answers,
            Err(NotDone::Nothing) => {
                metrics::counter!("together_apart_total", "unit" => J::NAME).increment(1);
            }
            Err(NotDone::Away(broken)) => {
                let answer = Answer::problem(Problem::from(broken));
                return vec![answer; members.len()];
            }
            Err(NotDone::Unknown(broken)) => {
                let found = members.into_iter().map(|member| again::<J>(db, member, &broken));
                return Box::pin(join_all(found)).await;
            }
        }
    }
    join_all(members.into_iter().map(|member| alone::<J>(db, member))).await
}

/// Answers a command that may have been done with others: by its key, or not at all.
async fn again<J: Joint>(db: &Db, member: Member<J::Cmd>, broken: &Broken) -> Answer {
    match look_back(db, &member.request, broken).await {
        Found::Answer(answer) => answer,
        Found::Nothing => alone::<J>(db, member).await,
        Found::Unknown => {
            let said = broken.to_string();
            Answer::problem(Problem::from(Broken::unavailable(J::NAME, said).into_unknown()))
        }
    }
}

/// Does one command as if there were no others.
async fn alone<J: Joint>(db: &Db, member: Member<J::Cmd>) -> Answer {
    let request = member.request.clone();
    let work = async move |tx: &mut Tx<J::Refused>| {
        J::check(&member.cmd, tx.now())?;
        let done = J::work(tx, std::slice::from_ref(&member))?;
        Ok(done.into_iter().next().expect("one was asked for"))
    };
    once(db, request, J::answer, work).await
}

/// What became of a flight that did not do what it should.
enum NotDone {
    /// Nothing was changed.
    Nothing,
    /// Nothing was changed, and the database cannot be reached.
    Away(Broken),
    Unknown(Broken),
}

async fn attempt<J: Joint>(db: &Db, members: &[Member<J::Cmd>]) -> Result<Vec<Answer>, NotDone> {
    let mut tx = db.begin::<J::Refused>(J::NAME).await.map_err(NotDone::Away)?;
    // The claims come first and carry the answers, which the work makes.
    let claims = tx.queued();
    tx.write(sql!(""));
    let now = tx.now();
    let work = members.iter().try_for_each(|member| J::check(&member.cmd, now));
    let done = work.map_err(Failure::from).and_then(|()| J::work(&mut tx, members));
    let Ok(done) = done else {
        tx.abandon().await;
        return Err(NotDone::Nothing);
    };
    let answers: Vec<Answer> = done.iter().map(J::answer).collect();
    *tx.unsent(claims).expect("the work cannot send") = claim_all(members, &answers);
    match tx.commit().await {
        Ok(()) => Ok(answers),
        Err(Failure::Broken(broken)) if broken.kind() == BrokenKind::Unknown => {
            Err(NotDone::Unknown(broken))
        }
        Err(Failure::Broken(broken)) if !tx.ended() => Err(NotDone::Away(broken)),
        Err(_) => Err(NotDone::Nothing),
    }
}

/// Claims the keys of those that have one. As with a single claim, a lock that somebody else has is not awaited.
fn claim_all<C>(members: &[Member<C>], answers: &[Answer]) -> Statement {
    let (mut callers, mut routes, mut keys, mut fingerprints) = (vec![], vec![], vec![], vec![]);
    let (mut locks, mut statuses, mut headers, mut bodies) = (vec![], vec![], vec![], vec![]);
    for (Member { request, .. }, answer) in members.iter().zip(answers) {
        let Some(key) = &request.key else { continue };
        let (status, head, body) = answer.to_stored();
        callers.push(request.cause.actor.subject.clone());
        routes.push(request.route.clone());
        keys.push(key.clone());
        fingerprints.push(request.fingerprint.to_vec());
        locks.push(lock_of(request, key));
        statuses.push(status);
        headers.push(Json(head));
        bodies.push(body);
    }
    sql!(
        "INSERT INTO idempotency (caller, route, key, fingerprint, claimed, status, headers, body)
         SELECT c.caller, c.route, c.key, c.fingerprint, pg_try_advisory_xact_lock(c.lock), c.status, c.headers, c.body
         FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bigint[], $6::smallint[], $7::jsonb[], $8::bytea[])
              AS c (caller, route, key, fingerprint, lock, status, headers, body)",
        callers,
        routes,
        keys,
        fingerprints,
        locks,
        statuses,
        headers,
        bodies,
    )
}
