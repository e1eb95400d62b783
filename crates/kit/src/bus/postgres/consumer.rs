//! A member of a consumer group.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_postgres::{Client, NoTls, Statement};
use uuid::Uuid;

use super::{BusError, Consumer, Received, failed, received};

/// How often a member says that it lives and looks whether the shares are still fair.
const HEARTBEAT: Duration = Duration::from_millis(700);
/// After how long an unheard member no longer counts, though its session lives.
const STALE_S: f64 = 3.0;
/// How long a member waits for a publisher's call before it looks by itself.
const TICK: Duration = Duration::from_millis(50);

type Partition = (String, i32);

pub(super) struct Member {
    client: Client,
    connection: tokio::task::AbortHandle,
    group: String,
    topics: Vec<String>,
    id: Uuid,
    /// The partitions that this session has locked, and the next offset to fetch of each.
    owned: BTreeMap<Partition, i64>,
    /// The highest offset that was given out of each and is not committed.
    in_flight: HashMap<Partition, i64>,
    balanced: Option<Instant>,
    /// Which bus these offsets are of: one that was lost and made anew, or emptied, is kept in other files.
    bus: Option<u32>,
    woken: watch::Receiver<u64>,
    fetch: Statement,
    commit: Statement,
}

impl Drop for Member {
    fn drop(&mut self) {
        // The session's locks go with its connection.
        self.connection.abort();
    }
}

impl Member {
    pub(super) async fn join(
        config: tokio_postgres::Config,
        group: String,
        topics: Vec<String>,
        woken: watch::Receiver<u64>,
    ) -> Result<Self, BusError> {
        let (client, connection) = config.connect(NoTls).await.map_err(|e| failed(&e))?;
        #[expect(clippy::disallowed_methods, reason = "aborted when the member is dropped")]
        let connection = tokio::spawn(connection).abort_handle();
        let fetch = client.prepare(FETCH).await.map_err(|e| failed(&e))?;
        let commit = client.prepare(COMMIT).await.map_err(|e| failed(&e))?;
        #[expect(
            clippy::disallowed_methods,
            reason = "names a session, not a thing of the business"
        )]
        let id = Uuid::new_v4();
        let mut member = Self {
            client,
            connection,
            group,
            topics,
            id,
            owned: BTreeMap::new(),
            in_flight: HashMap::new(),
            balanced: None,
            bus: None,
            woken,
            fetch,
            commit,
        };
        member.announce().await?;
        member.balance().await?;
        Ok(member)
    }

    /// Takes the lock by which others see that this member lives. It goes with the session, so nobody counts a member that was killed.
    async fn announce(&self) -> Result<(), BusError> {
        const LOCK: &str =
            "SELECT pg_advisory_lock(hashtextextended('hospital bus member ' || $1::uuid, 0))";
        self.client.execute(LOCK, &[&self.id]).await.map(|_| ()).map_err(|e| failed(&e))
    }

    /// Says that this member lives, and takes or gives back partitions so that everybody has a fair share.
    async fn balance(&mut self) -> Result<(), BusError> {
        if self.balanced.is_some_and(|at| at.elapsed() < HEARTBEAT) {
            return Ok(());
        }
        let rows = self
            .client
            .query(
                "WITH me AS (
                     INSERT INTO bus.member (\"group\", id) VALUES ($1, $2)
                     ON CONFLICT (\"group\", id) DO UPDATE SET last_seen = now()
                 ), other AS MATERIALIZED (
                     SELECT id, last_seen FROM bus.member WHERE \"group\" = $1 AND id <> $2
                 ), dead AS MATERIALIZED (
                     -- A member holds its own lock as long as its session lives.
                     SELECT id FROM other WHERE pg_try_advisory_xact_lock(hashtextextended('hospital bus member ' || id, 0))
                 ), gone AS (
                     DELETE FROM bus.member m USING dead WHERE m.\"group\" = $1 AND m.id = dead.id
                 )
                 SELECT (SELECT count(*) FROM other o WHERE last_seen > now() - make_interval(secs => $3)
                         AND NOT EXISTS (SELECT FROM dead d WHERE d.id = o.id)) AS others,
                        p.topic, p.partition, p.next_offset, pg_relation_filenode('bus.message') AS bus
                 FROM bus.partition p WHERE p.topic = ANY ($4) ORDER BY p.topic, p.partition",
                &[&self.group, &self.id, &STALE_S, &self.topics],
            )
            .await
            .map_err(|e| failed(&e))?;
        self.balanced = Some(Instant::now());
        let bus: Option<u32> = rows.first().map(|row| row.get("bus"));
        if bus.is_some()
            && std::mem::replace(&mut self.bus, bus).is_some_and(|was| bus != Some(was))
        {
            // Refilled so fast that it may be past these offsets already: it is read from its beginning all the same.
            self.rewind().await?;
        }
        let others: i64 = rows.first().map_or(0, |row| row.get(0));
        let members = usize::try_from(others).unwrap_or(0) + 1;
        let share = rows.len().div_ceil(members);
        let all: Vec<Partition> = rows.iter().map(|row| (row.get(1), row.get(2))).collect();
        for (partition, end) in all.iter().zip(rows.iter().map(|row| row.get::<_, i64>(3))) {
            // Behind the end: the bus was lost and begins anew, and so does its reader.
            if let Some(next) = self.owned.get_mut(partition).filter(|next| **next > end) {
                *next = 0;
            }
        }
        self.give_back(share).await?;
        self.take(all, share).await
    }

    async fn give_back(&mut self, share: usize) -> Result<(), BusError> {
        let surplus: Vec<Partition> = self
            .owned
            .keys()
            .filter(|p| !self.in_flight.contains_key(*p))
            .take(self.owned.len().saturating_sub(share))
            .cloned()
            .collect();
        for partition in surplus {
            self.client
                .query_one(
                    "SELECT pg_advisory_unlock(hashtextextended($1, 0))",
                    &[&self.lock_name(&partition)],
                )
                .await
                .map_err(|e| failed(&e))?;
            self.owned.remove(&partition);
        }
        Ok(())
    }

    async fn take(&mut self, all: Vec<Partition>, share: usize) -> Result<(), BusError> {
        let wanted: Vec<Partition> =
            all.into_iter().filter(|p| !self.owned.contains_key(p)).collect();
        let room = share.saturating_sub(self.owned.len());
        if wanted.is_empty() || room == 0 {
            return Ok(());
        }
        let names: Vec<String> = wanted.iter().map(|p| self.lock_name(p)).collect();
        let room_limit = i64::try_from(room).unwrap_or(i64::MAX);
        // Tried one after the other until the share is full; a volatile condition behind a materialized list.
        let rows = self
            .client
            .query(
                "WITH RECURSIVE tried (place, got, owned) AS (
                     SELECT 0, false, 0::bigint
                     UNION ALL
                     SELECT t.place + 1, l.got, t.owned + l.got::int FROM tried t,
                         LATERAL (SELECT pg_try_advisory_lock(hashtextextended(($1::text[])[t.place + 1], 0)) AS got OFFSET 0) l
                     WHERE t.place < cardinality($1::text[]) AND t.owned < $2
                 ) SELECT place FROM tried WHERE got",
                &[&names, &room_limit],
            )
            .await
            .map_err(|e| failed(&e))?;
        let mut got = Vec::new();
        for row in &rows {
            let place = usize::try_from(row.get::<_, i32>(0) - 1).unwrap_or(0);
            got.push(wanted[place].clone());
        }
        self.read_offsets(got).await
    }

    /// Begins partitions at what the group has committed; at the beginning where that is behind the end, as in a bus that was lost and is new.
    async fn read_offsets(&mut self, partitions: Vec<Partition>) -> Result<(), BusError> {
        if partitions.is_empty() {
            return Ok(());
        }
        let (topics, numbers): (Vec<String>, Vec<i32>) = partitions.into_iter().unzip();
        let rows = self
            .client
            .query(
                "SELECT w.topic, w.partition, CASE WHEN g.next_offset <= p.next_offset THEN g.next_offset ELSE 0 END
                 FROM unnest($2::text[], $3::integer[]) AS w (topic, partition)
                 LEFT JOIN bus.partition p ON p.topic = w.topic AND p.partition = w.partition
                 LEFT JOIN bus.group_offset g ON g.\"group\" = $1 AND g.topic = w.topic AND g.partition = w.partition",
                &[&self.group, &topics, &numbers],
            )
            .await
            .map_err(|e| failed(&e))?;
        for row in &rows {
            self.owned.insert((row.get(0), row.get(1)), row.get(2));
        }
        Ok(())
    }

    fn lock_name(&self, (topic, partition): &Partition) -> String {
        format!("hospital bus {}/{topic}/{partition}", self.group)
    }

    async fn fetch(&mut self, max: usize) -> Result<Vec<Received>, BusError> {
        let topics: Vec<&str> = self.owned.keys().map(|(topic, _)| topic.as_str()).collect();
        let numbers: Vec<i32> = self.owned.keys().map(|(_, partition)| *partition).collect();
        let offsets: Vec<i64> = self.owned.values().copied().collect();
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let rows = self
            .client
            .query(&self.fetch, &[&topics, &numbers, &offsets, &max])
            .await
            .map_err(|e| failed(&e))?;
        let records: Vec<Received> = rows.iter().map(received).collect();
        for record in &records {
            let partition = (record.topic.clone(), record.partition);
            self.owned.insert(partition.clone(), record.offset + 1);
            self.in_flight.insert(partition, record.offset);
        }
        Ok(records)
    }
}

const FETCH: &str = "
    SELECT m.topic, m.partition, m.\"offset\", m.key, m.headers, m.value, m.created_at
    FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS own (topic, partition, next),
         LATERAL (SELECT * FROM bus.message m WHERE m.topic = own.topic AND m.partition = own.partition AND m.\"offset\" >= own.next
                  ORDER BY m.\"offset\" LIMIT $4) m
    -- By time across partitions; within one by offset, whatever the clock did.
    ORDER BY max(m.created_at) OVER (PARTITION BY m.topic, m.partition ORDER BY m.\"offset\"), m.topic, m.partition, m.\"offset\"
    LIMIT $4";

const COMMIT: &str = "
    INSERT INTO bus.group_offset (\"group\", topic, partition, next_offset)
    SELECT $1, n.topic, n.partition, n.next
    FROM unnest($2::text[], $3::integer[], $4::bigint[]) AS n (topic, partition, next)
    WHERE pg_relation_filenode('bus.message') = $5 ORDER BY 2, 3
    ON CONFLICT (\"group\", topic, partition) DO UPDATE SET next_offset = excluded.next_offset";

#[async_trait]
impl Consumer for Member {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Vec<Received>, BusError> {
        let deadline = Instant::now() + wait;
        loop {
            self.woken.mark_unchanged();
            self.balance().await?;
            let records = self.fetch(max).await?;
            let now = Instant::now();
            if !records.is_empty() || now >= deadline {
                return Ok(records);
            }
            // Woken, or time to look: both mean another look.
            let _ = tokio::time::timeout(TICK.min(deadline - now), self.woken.changed()).await;
        }
    }

    async fn commit(&mut self, done: &[Received]) -> Result<(), BusError> {
        let mut next: BTreeMap<Partition, i64> = BTreeMap::new();
        for record in done {
            let offset = next.entry((record.topic.clone(), record.partition)).or_default();
            *offset = (*offset).max(record.offset + 1);
        }
        if next.keys().any(|partition| !self.owned.contains_key(partition)) {
            return Err(BusError::Revoked);
        }
        let topics: Vec<&str> = next.keys().map(|(topic, _)| topic.as_str()).collect();
        let numbers: Vec<i32> = next.keys().map(|(_, partition)| *partition).collect();
        let offsets: Vec<i64> = next.values().copied().collect();
        // On the session that holds the locks: if it is gone, so is the right to commit.
        let written = self
            .client
            .execute(&self.commit, &[&self.group, &topics, &numbers, &offsets, &self.bus])
            .await
            .map_err(|e| failed(&e))?;
        // Offsets of a bus that was lost say nothing of the one that is there.
        if written == 0 && !next.is_empty() {
            return Err(BusError::Revoked);
        }
        for (partition, offset) in next {
            if self.in_flight.get(&partition).is_some_and(|highest| *highest < offset) {
                self.in_flight.remove(&partition);
            }
        }
        Ok(())
    }

    async fn rewind(&mut self) -> Result<(), BusError> {
        self.in_flight.clear();
        let all: Vec<Partition> = self.owned.keys().cloned().collect();
        self.read_offsets(all).await
    }
}
