-- The PostgreSQL bus: topics of keyed partitions, groups with offsets. Safe to run again: on a bus that is as it should be nothing is
-- locked that somebody at work waits for.
-- A service's role reads everything, as on Kafka; it appends to its own topics and moves its own group's offsets. Whoever owns the
-- tables may do everything: tools work as the owner.

-- Somebody who reads all of it, such as a dump, is not waited for with everybody else waiting behind: try again later.
SET LOCAL lock_timeout = '5s';

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

-- Whose topics the platform's are, by its catalogue of events.
CREATE TABLE IF NOT EXISTS bus.publisher (
    topic text CONSTRAINT publisher_of PRIMARY KEY,
    role  name NOT NULL
);

-- The role that may publish to a topic. A dead-letter topic is its group's, and a group is called as its service is; nobody but the
-- owner may publish to any other.
CREATE OR REPLACE FUNCTION bus.writer_of(topic text) RETURNS name LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT p.role FROM bus.publisher p WHERE p.topic = $1),
                    'hospital_' || substring($1 FROM '^.+[.]([a-z]+)[.]dlq$'))::name
$$;

-- Whoever makes a topic does not choose whose it is.
CREATE OR REPLACE FUNCTION bus.partition_has_writer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.writer := bus.writer_of(NEW.topic);
    RETURN NEW;
END $$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_policy WHERE polrelid = 'bus.message'::regclass) THEN
        RETURN;
    END IF;
    ALTER TABLE bus.partition ADD COLUMN writer name;
    CREATE TRIGGER partition_has_writer BEFORE INSERT ON bus.partition
        FOR EACH ROW EXECUTE FUNCTION bus.partition_has_writer();

    ALTER TABLE bus.partition ENABLE ROW LEVEL SECURITY;
    CREATE POLICY partition_read ON bus.partition FOR SELECT USING (true);
    CREATE POLICY partition_made ON bus.partition FOR INSERT WITH CHECK (true);
    CREATE POLICY partition_of_own_topic ON bus.partition FOR UPDATE USING (writer = current_user);

    ALTER TABLE bus.message ENABLE ROW LEVEL SECURITY;
    CREATE POLICY message_read ON bus.message FOR SELECT USING (true);

    ALTER TABLE bus.group_offset ENABLE ROW LEVEL SECURITY;
    CREATE POLICY group_offset_read ON bus.group_offset FOR SELECT USING (true);
    CREATE POLICY group_offset_begun ON bus.group_offset FOR INSERT
        WITH CHECK ('hospital_' || "group" = current_user);
    CREATE POLICY group_offset_moved ON bus.group_offset FOR UPDATE
        USING ('hospital_' || "group" = current_user);

    ALTER TABLE bus.member ENABLE ROW LEVEL SECURITY;
    CREATE POLICY member_read ON bus.member FOR SELECT USING (true);
    CREATE POLICY member_of_own_group ON bus.member
        USING ('hospital_' || "group" = current_user);
END $$;

-- Removes what is past its topic's retention, at most a thousand messages of a partition at a time; gives how many. The oldest of each
-- partition, by its key: nothing is read of a partition whose oldest is young. Services may call it, and delete nothing else.
CREATE OR REPLACE FUNCTION bus.prune() RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = bus, pg_temp AS $$
    WITH gone AS (
        DELETE FROM bus.message m USING (
            SELECT first.topic, first.partition, first."offset"
            FROM bus.partition p JOIN bus.topic t ON t.name = p.topic AND t.retention_s IS NOT NULL,
                 LATERAL (SELECT f.topic, f.partition, f."offset", f.created_at FROM bus.message f
                          WHERE f.topic = p.topic AND f.partition = p.partition ORDER BY f."offset" LIMIT 1000) first
            WHERE first.created_at < now() - make_interval(secs => t.retention_s)) old
        WHERE (m.topic, m.partition, m."offset") = (old.topic, old.partition, old."offset") RETURNING 1
    ) SELECT count(*) FROM gone
$$;
REVOKE ALL ON FUNCTION bus.prune() FROM PUBLIC;
-- bus_owners.sql goes on, once it is written down whose the topics are.
