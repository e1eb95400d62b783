//! Every SQL statement of the service.

use std::{collections::HashMap, convert::Infallible, time::Duration};

use hospital_contracts::notification::{NotificationKind, NotificationStatus};
use hospital_kit::{
    cause::Cause,
    db::{Db, Reader, Tx},
    inbox::Poison,
    jobs::{self, Handler},
    outcome::{Broken, Failure, Outcome},
    sql,
};
use hospital_types::{
    AppointmentId, BillId, Id, Kind, NotificationId, PatientId, PractitionerId, Sensitive,
};
use jiff::Timestamp;
use tokio_postgres::Row;

use crate::{
    contact_sync::{ContactSync, sync_contact},
    message::{Delivery, Message},
};

/// Queues the request for contact points of at least these versions.
pub(crate) fn request_contacts(tx: &mut Tx<Poison>, wanted: &[(PatientId, i32)]) {
    if wanted.is_empty() {
        return;
    }
    let (patients, versions): (Vec<PatientId>, Vec<i32>) = wanted.iter().copied().unzip();
    tx.write(sql!(
        "INSERT INTO contact AS c (patient_id, wanted_version, next_fetch_at)
         SELECT w.patient_id, max(w.version), NULL FROM unnest($1::uuid[], $2::integer[]) AS w (patient_id, version)
         GROUP BY 1 ORDER BY 1
         ON CONFLICT ON CONSTRAINT contact_of
         DO UPDATE SET wanted_version = excluded.wanted_version, next_fetch_at = NULL, missing = 0
         WHERE c.wanted_version < excluded.wanted_version",
        patients.clone(),
        versions,
    ));
    sync_contacts(tx, patients);
}

fn sync_contacts(tx: &mut Tx<Poison>, patients: Vec<PatientId>) {
    let jobs: Vec<_> = patients.into_iter().map(sync_contact).collect();
    // One job stands for all events that ask for it, so it has no event's trace.
    jobs::enqueue(tx, &Cause::system("contact.sync"), &ContactSync::KIND, &jobs);
}

/// Marks ids of a [`Dispatch`].
pub(crate) enum DispatchKind {}
impl Kind for DispatchKind {
    const NAME: &'static str = "dispatch";
}
pub(crate) type DispatchId = Id<DispatchKind>;

/// Messages that this process writes and sends together, within a minute.
pub(crate) struct Dispatch {
    pub(crate) id: DispatchId,
    pub(crate) messages: Vec<Claimed>,
}

/// How many messages go into one dispatch: what a crash may send twice.
const DISPATCH: usize = 128;

/// Writes new messages, and the request for contact points that nobody has asked for yet, in one statement. Up to `room` messages whose contact
/// point is known are claimed for this process at once, in dispatches, and given back to be sent when all of this is committed; the others
/// are due.
pub(crate) async fn insert_deliveries(
    tx: &mut Tx<Poison>,
    messages: Vec<Message>,
    room: usize,
) -> Outcome<Vec<Dispatch>, Poison> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let now = tx.now();
    let ids: Vec<DispatchId> = messages.chunks(DISPATCH).map(|_| DispatchId::new()).collect();
    let rows = tx
        .read(sql!(
            "WITH input AS MATERIALIZED (
                 SELECT m.*, c.email, c.patient_id IS NULL OR c.next_fetch_at = 'infinity' AS stranger,
                        coalesce(c.known_version >= c.wanted_version, false) AND m.place <= $10 AS now
                 FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::uuid[], $6::uuid[], $7::text[], $8::text[]) WITH ORDINALITY
                      AS m (id, event_id, kind, patient_id, appointment_id, bill_id, subject, body, place)
                 LEFT JOIN contact c ON c.patient_id = m.patient_id
             ), strangers AS (
                 -- Never heard of as yet, or not known to the patient service the last time.
                 INSERT INTO contact (patient_id, wanted_version, next_fetch_at)
                 SELECT DISTINCT patient_id, 1, NULL::timestamptz FROM input WHERE stranger ORDER BY patient_id
                 ON CONFLICT ON CONSTRAINT contact_of DO UPDATE SET next_fetch_at = NULL, missing = 0
                 WHERE contact.next_fetch_at = 'infinity'
                 RETURNING patient_id
             ), written AS (
                 INSERT INTO delivery (id, event_id, kind, channel, recipient, patient_id, appointment_id, bill_id, subject, body, status,
                                       attempts, next_attempt_at, created_at, dispatch)
                 SELECT i.id, i.event_id, i.kind, 'email', CASE WHEN i.now THEN i.email END, i.patient_id, i.appointment_id, i.bill_id,
                        i.subject, i.body, 'pending', i.now::integer, CASE WHEN i.now THEN 'infinity' ELSE now() END, $9::timestamptz,
                        CASE WHEN i.now THEN ($11::uuid[])[(i.place - 1) / $12 + 1] END
                 FROM input i
                 ON CONFLICT ON CONSTRAINT delivery_once DO NOTHING
                 RETURNING id, recipient, dispatch
             ), taken AS (
                 INSERT INTO dispatch (id, deliveries, lapses_at)
                 SELECT dispatch, array_agg(id), now() + interval '1 minute' FROM written WHERE dispatch IS NOT NULL GROUP BY dispatch
             )
             SELECT id, recipient, dispatch, NULL::uuid AS stranger FROM written WHERE dispatch IS NOT NULL
             UNION ALL SELECT NULL, NULL, NULL, patient_id FROM strangers",
            messages.iter().map(|m| m.id).collect::<Vec<_>>(),
            messages.iter().map(|m| m.event).collect::<Vec<_>>(),
            messages.iter().map(|m| m.kind.as_str()).collect::<Vec<_>>(),
            messages.iter().map(|m| m.patient).collect::<Vec<_>>(),
            messages.iter().map(|m| m.appointment).collect::<Vec<_>>(),
            messages.iter().map(|m| m.bill).collect::<Vec<_>>(),
            messages.iter().map(|m| m.subject.clone()).collect::<Vec<_>>(),
            messages.iter().map(|m| m.body.clone()).collect::<Vec<_>>(),
            now,
            i64::try_from(room).unwrap_or(i64::MAX),
            ids.clone(),
            i64::try_from(DISPATCH).unwrap_or(i64::MAX),
        ))
        .await?;
    let strangers = rows.iter().filter_map(|row| row.get("stranger")).collect();
    sync_contacts(tx, strangers);
    Ok(in_dispatches(&rows, messages, ids, now))
}

/// Puts what was claimed together again, from the texts and what the database made of them.
fn in_dispatches(
    rows: &[Row],
    messages: Vec<Message>,
    ids: Vec<DispatchId>,
    now: Timestamp,
) -> Vec<Dispatch> {
    let mut texts: HashMap<NotificationId, Message> =
        messages.into_iter().map(|message| (message.id, message)).collect();
    let mut dispatches: Vec<Dispatch> =
        ids.into_iter().map(|id| Dispatch { id, messages: Vec::new() }).collect();
    for row in rows {
        let claimed: (Option<NotificationId>, Option<DispatchId>) =
            (row.get("id"), row.get("dispatch"));
        let (Some(message), Some(dispatch)) = claimed else { continue };
        let Some(message) = texts.remove(&message) else { continue };
        let Some(dispatch) = dispatches.iter_mut().find(|d| d.id == dispatch) else { continue };
        dispatch.messages.push(Claimed {
            id: message.id,
            recipient: row.get::<_, Option<String>>("recipient").map(Sensitive::new),
            stranger: false,
            subject: message.subject,
            body: message.body,
            attempts: 1,
            created_at: now,
        });
    }
    dispatches.retain(|dispatch| !dispatch.messages.is_empty());
    dispatches
}

/// What the patient service is still to be asked about a patient.
pub(crate) struct ContactRequest {
    pub(crate) patient: PatientId,
    pub(crate) wanted_version: i32,
    /// How often in a row it has said that there is no such patient.
    pub(crate) missing: i32,
}

/// Which of these patients' contact points are not known as they were announced.
pub(crate) async fn requested_contacts(
    db: Reader<'_>,
    patients: Vec<PatientId>,
) -> Result<Vec<ContactRequest>, Broken> {
    let rows = db
        .read(sql!(
            "SELECT patient_id, wanted_version, missing FROM contact
             WHERE patient_id = ANY ($1) AND known_version < wanted_version",
            patients,
        ))
        .await?;
    let request = |row: &Row| ContactRequest {
        patient: row.get("patient_id"),
        wanted_version: row.get("wanted_version"),
        missing: row.get("missing"),
    };
    Ok(rows.iter().map(request).collect())
}

/// Stores what the patient service answered; an older answer than the one that is there changes
/// nothing.
pub(crate) async fn store_contact(
    db: &Db,
    patient: PatientId,
    version: i32,
    email: Option<String>,
) -> Result<(), Broken> {
    db.write_alone(
        "contact.store",
        sql!(
            "UPDATE contact SET known_version = $2, email = $3, failures = 0, missing = 0,
                next_fetch_at = NULL
         WHERE patient_id = $1 AND known_version <= $2",
            patient,
            version,
            email,
        ),
    )
    .await
    .map(|_| ())
}

/// Writes down that there was no answer: meanwhile an address from before is used.
pub(crate) async fn defer_contact(db: &Db, patient: PatientId) -> Result<(), Broken> {
    let statement =
        sql!("UPDATE contact SET failures = failures + 1 WHERE patient_id = $1", patient);
    db.write_alone("contact.defer", statement).await.map(|_| ())
}

/// Writes down that the patient service does not know the patient, and whether nobody asks again
/// before there is something new to tell them. Meanwhile an address from before is used.
pub(crate) async fn miss_contact(db: &Db, patient: PatientId, last: bool) -> Result<(), Broken> {
    db.write_alone(
        "contact.miss",
        sql!(
            "UPDATE contact SET missing = missing + 1, failures = failures + 1,
                next_fetch_at = CASE WHEN $2 THEN timestamptz 'infinity' END
         WHERE patient_id = $1",
            patient,
            last,
        ),
    )
    .await
    .map(|_| ())
}

/// What these practitioners are called, as far as it is known.
pub(crate) async fn practitioner_names(
    db: Reader<'_>,
    practitioners: Vec<PractitionerId>,
) -> Result<Vec<(PractitionerId, String)>, Broken> {
    let rows = db
        .read(sql!(
            "SELECT practitioner_id, name FROM practitioner WHERE practitioner_id = ANY ($1)",
            practitioners,
        ))
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Keeps what practitioners are called.
pub(crate) async fn keep_practitioner_names(
    db: &Db,
    named: Vec<(PractitionerId, String)>,
) -> Result<(), Broken> {
    let (practitioners, names): (Vec<PractitionerId>, Vec<String>) = named.into_iter().unzip();
    db.write_alone(
        "practitioner.keep-names",
        sql!(
            "INSERT INTO practitioner (practitioner_id, name)
         SELECT n.practitioner_id, n.name
         FROM unnest($1::uuid[], $2::text[]) AS n (practitioner_id, name) ORDER BY 1
         ON CONFLICT ON CONSTRAINT practitioner_of DO NOTHING",
            practitioners,
            names,
        ),
    )
    .await
    .map(|_| ())
}

/// A message that is this process's to send, for a minute.
pub(crate) struct Claimed {
    pub(crate) id: NotificationId,
    pub(crate) recipient: Option<Sensitive<String>>,
    /// Whether the patient service does not know the patient.
    pub(crate) stranger: bool,
    pub(crate) subject: String,
    pub(crate) body: String,
    pub(crate) attempts: i32,
    pub(crate) created_at: Timestamp,
}

/// Takes messages that are due and whose contact point is known: as events announced it, or, while
/// the patient service does not answer, as the copy has it; and those to patients whom the patient
/// service does not know to the last. Dispatches whose process has had its time come apart; their
/// messages are due from the next call on.
pub(crate) async fn claim_deliveries(db: &Db, limit: i64) -> Result<Vec<Claimed>, Broken> {
    let rows = db
        .write_alone("notification.claim", sql!(
            "WITH lapsed AS (
                 DELETE FROM dispatch WHERE sent_at IS NULL AND lapses_at <= now() RETURNING id, deliveries
             ), alone AS (
                 UPDATE delivery d SET dispatch = NULL, next_attempt_at = now(), version = d.version + 1
                 FROM lapsed l WHERE d.id = ANY (l.deliveries) AND d.dispatch = l.id
             ), due AS (
                 SELECT d.id, c.email, c.known_version = 0 AS stranger
                 FROM delivery d JOIN contact c USING (patient_id)
                 WHERE d.status = 'pending' AND d.dispatch IS NULL AND d.next_attempt_at <= now()
                   AND (c.known_version >= c.wanted_version OR (c.known_version > 0 AND c.failures > 0)
                        OR c.next_fetch_at = 'infinity')
                 ORDER BY d.next_attempt_at LIMIT $1 FOR UPDATE OF d SKIP LOCKED)
             UPDATE delivery d SET next_attempt_at = now() + interval '1 minute', attempts = d.attempts + 1, version = d.version + 1,
                    recipient = coalesce(d.recipient, due.email)
             FROM due WHERE d.id = due.id
             RETURNING d.id, d.recipient, due.stranger, d.subject, d.body, d.attempts, d.created_at",
            limit,
        ))
        .await?;
    Ok(rows
        .iter()
        .map(|row| Claimed {
            id: row.get("id"),
            recipient: row.get::<_, Option<String>>("recipient").map(Sensitive::new),
            stranger: row.get("stranger"),
            subject: row.get("subject"),
            body: row.get("body"),
            attempts: row.get("attempts"),
            created_at: row.get("created_at"),
        })
        .collect())
}

/// Keeps for another minute what is still being sent: these dispatches, and messages by themselves
/// at their attempts. What has lapsed meanwhile is somebody else's and stays so.
pub(crate) async fn renew(
    db: &Db,
    dispatches: Vec<DispatchId>,
    alone: &[(NotificationId, i32)],
) -> Result<(), Broken> {
    let (ids, attempts): (Vec<NotificationId>, Vec<i32>) = alone.iter().copied().unzip();
    db.write_alone(
        "notification.renew",
        sql!(
            "WITH dispatches AS (
             UPDATE dispatch SET lapses_at = now() + interval '1 minute'
             WHERE id = ANY ($1) AND sent_at IS NULL
         )
         UPDATE delivery d SET next_attempt_at = now() + interval '1 minute'
         FROM unnest($2::uuid[], $3::integer[]) AS held (id, attempts)
         WHERE d.id = held.id AND d.attempts = held.attempts AND d.status = 'pending'
           AND d.dispatch IS NULL",
            dispatches,
            ids,
            attempts,
        ),
    )
    .await
    .map(|_| ())
}

/// Gives up dispatches without having tried: their messages are due at once, for whoever comes.
pub(crate) async fn release_dispatches(db: &Db, ids: Vec<DispatchId>) -> Result<(), Broken> {
    db.write_alone("notification.release", sql!(
        "WITH released AS (DELETE FROM dispatch WHERE id = ANY ($1) AND sent_at IS NULL RETURNING id, deliveries)
         UPDATE delivery d SET dispatch = NULL, next_attempt_at = now(), attempts = d.attempts - 1, version = d.version + 1
         FROM released r WHERE d.id = ANY (r.deliveries) AND d.dispatch = r.id",
        ids,
    ))
    .await
    .map(|_| ())
}

/// What became of a claimed message.
pub(crate) struct Mark {
    pub(crate) id: NotificationId,
    pub(crate) status: &'static str,
    pub(crate) error: Option<String>,
    /// In how long it is tried again.
    pub(crate) after: Duration,
}

/// Marks single messages, which leave their dispatches, and marks what is left in these dispatches as sent. Gives the dispatches of which that
/// is true now: the others had lapsed, and somebody else has their messages.
pub(crate) async fn mark(
    db: &Db,
    marks: &[Mark],
    sent: Vec<DispatchId>,
) -> Result<Vec<DispatchId>, Broken> {
    let dispatches = sql!(
        "UPDATE dispatch SET sent_at = now(), deliveries = '{}' WHERE id = ANY ($1) AND sent_at IS NULL RETURNING id",
        sent
    );
    let rows = if marks.is_empty() {
        db.write_alone("notification.mark", dispatches).await?
    } else {
        let done: Outcome<Vec<Row>, Infallible> = db
            .write("notification.mark", async |tx: &mut Tx<Infallible>| {
                for mark in marks {
                    mark_alone(tx, mark);
                }
                tx.read(dispatches).await
            })
            .await;
        match done {
            Ok(rows) => rows,
            Err(Failure::Broken(broken)) => return Err(broken),
            Err(Failure::Refused(never)) => match never {},
        }
    };
    Ok(rows.iter().map(|row| row.get("id")).collect())
}

/// A statement each, sent together, so that each looks by the id's index. One statement for all, planned while there were few messages, read the
/// whole table for each of them until PostgreSQL had counted again: a new database's first busy minute sent nothing.
fn mark_alone(tx: &mut Tx<Infallible>, mark: &Mark) {
    tx.write(sql!(
        "UPDATE delivery d SET status = $2, error = $3, version = d.version + 1, dispatch = NULL,
                sent_at = CASE WHEN $2 = 'sent' THEN now() END, next_attempt_at = now() + make_interval(secs => $4)
         WHERE d.id = $1 AND d.status = 'pending'",
        mark.id,
        mark.status,
        mark.error.clone(),
        mark.after.as_secs_f64(),
    ));
}

/// What a list of messages asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) patient: Option<PatientId>,
    pub(crate) appointment: Option<AppointmentId>,
    pub(crate) bill: Option<BillId>,
    pub(crate) status: Option<NotificationStatus>,
}

macro_rules! select_delivery {
    ($($rest:literal),+) => {
        concat!(
            "SELECT d.id, d.version, d.event_id, d.kind, d.channel, d.recipient, d.patient_id, d.appointment_id, d.bill_id, d.subject,
                    d.body, d.status, d.attempts, d.created_at, d.sent_at
             FROM message d ",
            $($rest),+
        )
    };
}

pub(crate) async fn delivery_by_id(
    db: Reader<'_>,
    id: NotificationId,
) -> Result<Option<Delivery>, Broken> {
    let rows = db.read(sql!(select_delivery!("WHERE d.id = $1"), id)).await?;
    Ok(rows.first().map(delivery))
}

/// Plans are generic, so each statement leads with the one condition whose index is to be used; the others only narrow.
macro_rules! delivery_list {
    ($lead:literal) => {
        select_delivery!(
            "WHERE ",
            $lead,
            " AND d.id > coalesce($5, '00000000-0000-0000-0000-000000000000'::uuid)
              AND ($1::uuid IS NULL OR d.patient_id = $1) AND ($2::uuid IS NULL OR d.appointment_id = $2)
              AND ($3::uuid IS NULL OR d.bill_id = $3) AND ($4::text IS NULL OR d.status = $4)
              ORDER BY d.id LIMIT $6"
        )
    };
}

/// One page by rising id, after `after`.
pub(crate) async fn deliveries(
    db: Reader<'_>,
    filter: &Filter,
    after: Option<NotificationId>,
    limit: i64,
) -> Result<Vec<Delivery>, Broken> {
    let sql = if filter.appointment.is_some() {
        delivery_list!("d.appointment_id = $2")
    } else if filter.bill.is_some() {
        delivery_list!("d.bill_id = $3")
    } else if filter.patient.is_some() {
        delivery_list!("d.patient_id = $1")
    } else {
        delivery_list!("true")
    };
    let rows = db
        .read(sql!(
            sql,
            filter.patient,
            filter.appointment,
            filter.bill,
            filter.status.map(NotificationStatus::as_str),
            after,
            limit,
        ))
        .await?;
    Ok(rows.iter().map(delivery).collect())
}

fn delivery(row: &Row) -> Delivery {
    Delivery {
        message: Message {
            id: row.get("id"),
            event: row.get("event_id"),
            kind: NotificationKind::parse(row.get("kind")).expect("delivery_kind allows no other"),
            patient: row.get("patient_id"),
            appointment: row.get("appointment_id"),
            bill: row.get("bill_id"),
            subject: row.get("subject"),
            body: row.get("body"),
        },
        version: row.get("version"),
        channel: row.get("channel"),
        recipient: row.get::<_, Option<String>>("recipient").map(Sensitive::new),
        status: NotificationStatus::parse(row.get("status"))
            .expect("delivery_status allows no other"),
        attempts: row.get("attempts"),
        created_at: row.get("created_at"),
        sent_at: row.get("sent_at"),
    }
}
