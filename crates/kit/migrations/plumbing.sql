-- Why: what every service's schema holds beside its own tables: the event log, the inbox, remembered answers.
-- Locks: nothing that exists.

-- The service's event log. Insert-only: the service's role may not change or delete a row, and old months are dropped as partitions.
CREATE TABLE outbox (
    seq         bigint GENERATED ALWAYS AS IDENTITY,
    event_id    uuid        NOT NULL,
    topic       text        NOT NULL,
    event_type  text        NOT NULL,
    aggregate   uuid        NOT NULL,
    version     integer     NOT NULL,
    subject     uuid        NOT NULL,
    payload     jsonb       NOT NULL,
    traceparent text,
    unit        text        NOT NULL,
    actor       text        NOT NULL,
    xid         xid8        NOT NULL DEFAULT pg_current_xact_id(),
    created_at  timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (created_at);
CREATE INDEX outbox_xid ON outbox (xid);
CREATE INDEX outbox_aggregate ON outbox (aggregate);
-- Takes what no month's partition takes, so that a missed maintenance never refuses a booking.
CREATE TABLE outbox_default PARTITION OF outbox DEFAULT;

-- Makes this month's and the next two months' partitions, and drops those that are past retention and relayed.
CREATE FUNCTION outbox_maintain(keep_days integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    first date := date_trunc('month', now() AT TIME ZONE 'UTC');
    month date;
    old   record;
    stale boolean;
BEGIN
    FOR ahead IN 0..2 LOOP
        month := first + make_interval(months => ahead);
        EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF outbox FOR VALUES FROM (%L) TO (%L)',
            'outbox_' || to_char(month, 'YYYYMM'),
            month::timestamp AT TIME ZONE 'UTC', (month + interval '1 month')::timestamp AT TIME ZONE 'UTC');
    END LOOP;
    FOR old IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'outbox'::regclass AND c.relname ~ '^outbox_[0-9]{6}$'
          AND to_date(right(c.relname, 6), 'YYYYMM') + interval '1 month' < now() - make_interval(days => keep_days)
    LOOP
        EXECUTE format('SELECT NOT EXISTS (SELECT 1 FROM %I o, outbox_relay r WHERE o.xid >= pg_snapshot_xmin(r.snapshot))',
            old.relname) INTO stale;
        IF stale THEN
            EXECUTE format('DROP TABLE %I', old.relname);
        END IF;
    END LOOP;
END $$;

-- How far the relay is: everything visible in this snapshot has been published.
CREATE TABLE outbox_relay (
    single   boolean     PRIMARY KEY DEFAULT true CONSTRAINT outbox_relay_single CHECK (single),
    snapshot pg_snapshot NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO outbox_relay (snapshot) VALUES ('1:1:');
SELECT outbox_maintain(36500);

-- One row per consumer and event: the effect of an event happens once, however often it arrives.
CREATE TABLE inbox (
    consumer    text        NOT NULL,
    event_id    uuid        NOT NULL,
    topic       text        NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT inbox_once PRIMARY KEY (consumer, event_id)
);

-- One row per caller, route and key: what was answered, to be answered again. Without a status the first is still running.
CREATE TABLE idempotency (
    caller      text        NOT NULL,
    route       text        NOT NULL,
    key         text        NOT NULL,
    fingerprint bytea       NOT NULL,
    -- False when another transaction holds the key's lock at this moment: the insert fails at once instead of waiting for it.
    claimed     boolean     NOT NULL CONSTRAINT idempotency_in_progress CHECK (claimed),
    status      smallint,
    headers     jsonb,
    body        bytea,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_once PRIMARY KEY (key, caller, route)
);
CREATE INDEX idempotency_age ON idempotency USING brin (created_at);
