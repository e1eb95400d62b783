-- The PostgreSQL bus: topics of keyed partitions, groups with offsets. Safe to run again.

CREATE SCHEMA IF NOT EXISTS bus;

CREATE TABLE IF NOT EXISTS bus.topic (
    name        text    CONSTRAINT topic_name PRIMARY KEY,
    partitions  integer NOT NULL CONSTRAINT topic_has_partitions CHECK (partitions > 0),
    retention_s bigint
);

-- The row's lock is held from the moment offsets are handed out until they are committed, so offsets become visible in order and
-- nobody who reads on from an offset can miss a lower one.
CREATE TABLE IF NOT EXISTS bus.partition (
    topic       text    NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint  NOT NULL DEFAULT 0,
    CONSTRAINT partition_once PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);

CREATE TABLE IF NOT EXISTS bus.message (
    topic      text        NOT NULL,
    partition  integer     NOT NULL,
    "offset"   bigint      NOT NULL,
    key        text        NOT NULL,
    headers    jsonb       NOT NULL,
    value      bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT message_once PRIMARY KEY (topic, partition, "offset")
);

CREATE TABLE IF NOT EXISTS bus.group_offset (
    "group"     text    NOT NULL,
    topic       text    NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint  NOT NULL,
    CONSTRAINT group_offset_once PRIMARY KEY ("group", topic, partition)
) WITH (fillfactor = 50);

-- Who takes part in a group. Ownership is a session's advisory lock; this only tells how many share.
CREATE TABLE IF NOT EXISTS bus.member (
    "group"   text        NOT NULL,
    id        uuid        NOT NULL,
    last_seen timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT member_once PRIMARY KEY ("group", id)
);

-- Until replicas that call it are gone.
CREATE OR REPLACE FUNCTION bus.publish(
    topics text[], partitions integer[], keys text[], headers jsonb[], bodies bytea[]
) RETURNS bigint LANGUAGE sql AS $$
    WITH input AS MATERIALIZED (
        SELECT i.topic, i.partition, i.key, i.headers, i.body, i.place,
               row_number() OVER (PARTITION BY i.topic, i.partition ORDER BY i.place) AS nth
        FROM unnest(topics, partitions, keys, headers, bodies) WITH ORDINALITY
             AS i (topic, partition, key, headers, body, place)
    ), counts AS MATERIALIZED (
        SELECT topic, partition, count(*) AS n FROM input GROUP BY topic, partition
    ), locked AS MATERIALIZED (
        -- One order for everybody, so that two publishers cannot wait for each other.
        SELECT p.topic, p.partition FROM bus.partition p JOIN counts USING (topic, partition)
        ORDER BY p.topic, p.partition FOR NO KEY UPDATE OF p
    ), taken AS (
        UPDATE bus.partition p SET next_offset = p.next_offset + c.n
        FROM locked l JOIN counts c USING (topic, partition)
        WHERE p.topic = l.topic AND p.partition = l.partition
        RETURNING p.topic, p.partition, p.next_offset - c.n AS first
    ), written AS (
        INSERT INTO bus.message (topic, partition, "offset", key, headers, value)
        SELECT i.topic, i.partition, t.first + i.nth - 1, i.key, i.headers, i.body
        FROM input i JOIN taken t USING (topic, partition)
        ORDER BY i.place
        RETURNING 1
    )
    SELECT count(*) FROM written
$$;
