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

-- Copies of dead letters were kept for ever once. The ledgers have what nobody has decided yet.
UPDATE bus.topic SET retention_s = 90 * 86400 WHERE name LIKE '%.dlq' AND retention_s IS NULL;
