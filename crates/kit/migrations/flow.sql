-- Why: publishing must not stop in silence. The relay's saved snapshot names transactions, which
-- mean something only in the history of transactions in which it was saved: after a logical restore
-- it said for days that nothing was new. And maintenance asked for locks on the whole log, which
-- stopped the relay and bookings behind anybody who read it for long, as a backup does. Also: all
-- that grows is forgotten some day, and it is known since when it is kept.
-- Locks: the relay's row and the inbox's writers for a moment; the log is read once. The version
-- before works on: what it calls `outbox_maintain` does nothing any more.

-- Which history of transactions the snapshot is of. `saved_by` is the transaction that wrote the
-- row, which the row's own xmin says as well: they differ once the row came here as data, from a
-- dump or by replication. A copy of the files, a promoted standby and pg_upgrade keep both.
ALTER TABLE outbox_relay
    ADD COLUMN saved_by xid8   NOT NULL DEFAULT '0',
    ADD COLUMN cluster  bigint NOT NULL DEFAULT 0;

-- The server's own number; 0 where it is not told.
CREATE FUNCTION outbox_cluster() RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT system_identifier FROM pg_control_system());
EXCEPTION WHEN insufficient_privilege THEN
    RETURN 0;
END $$;

-- Whoever writes a row that is of this history says so; the version before does not know that it
-- should. One that is not stays as it is, until the relay has begun again.
CREATE FUNCTION outbox_relay_saved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.saved_by::xid = OLD.xmin THEN
        NEW.saved_by := pg_current_xact_id();
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER outbox_relay_saved BEFORE UPDATE ON outbox_relay
    FOR EACH ROW EXECUTE FUNCTION outbox_relay_saved();

-- A log that was restored before this version came is not of this history, and its rows say so.
UPDATE outbox_relay SET saved_by = pg_current_xact_id(), cluster = outbox_cluster()
WHERE NOT EXISTS (SELECT 1 FROM outbox WHERE xid::xid <> xmin);

-- Why the saved snapshot is of no use here; null when it is. Rows of the log that came here as data
-- have another xid than xmin, unless they were looked at already ('2').
CREATE FUNCTION outbox_relay_lost() RETURNS text
    LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT CASE
        WHEN r.saved_by::xid <> r.xmin
            THEN 'it was saved in another database and copied here as data'
        WHEN pg_snapshot_xmax(r.snapshot) > pg_snapshot_xmax(pg_current_snapshot())
            THEN 'it is of transactions that are still to come'
        WHEN r.cluster <> outbox_cluster()
            AND EXISTS (SELECT 1 FROM outbox WHERE xid::xid <> xmin AND xid <> '2'::xid8)
            THEN 'it was saved in another cluster'
    END
    FROM outbox_relay r $$;

-- Gives the events of a partition xids of this history: a new one to what was not published, as
-- the saved snapshot says of rows that came with it; and to what was written here since. `fresh`
-- is a snapshot from before the first call. What was published is left alone where its xid is
-- below all that is to come, and otherwise gets '2', which is older than anything.
-- Gives how many are to be published.
CREATE FUNCTION outbox_number_anew(part regclass, saved pg_snapshot, fresh pg_snapshot)
    RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    unpublished bigint;
BEGIN
    IF outbox_relay_lost() IS NULL OR NOT EXISTS (
        SELECT 1 FROM pg_inherits WHERE inhparent = 'outbox'::regclass AND inhrelid = part)
    THEN
        RAISE EXCEPTION 'the log is never changed' USING ERRCODE = 'insufficient_privilege';
    END IF;
    EXECUTE format('WITH changed AS (
        UPDATE %s SET xid = CASE
            WHEN xid::xid <> xmin AND pg_visible_in_snapshot(xid, $1) THEN ''2''::xid8
            ELSE pg_current_xact_id() END
        WHERE CASE WHEN xid::xid <> xmin
            THEN NOT pg_visible_in_snapshot(xid, $1) OR xid >= pg_snapshot_xmin($2)
            ELSE pg_visible_in_snapshot(xid, $2) END
        RETURNING xid)
        SELECT count(*) FROM changed WHERE xid <> ''2''::xid8', part)
    INTO unpublished USING saved, fresh;
    RETURN unpublished;
END $$;

-- Since when what is kept: what is older may be gone.
CREATE TABLE kept_since (
    what  text        CONSTRAINT kept_since_once PRIMARY KEY,
    since timestamptz NOT NULL
);
-- Months of the log may have been dropped before anybody wrote it down.
INSERT INTO kept_since
SELECT 'outbox', coalesce((
    SELECT min(to_date(right(c.relname, 6), 'YYYYMM'))::timestamp AT TIME ZONE 'UTC'
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'outbox'::regclass AND c.relname ~ '^outbox_[0-9]{6}$'
    HAVING min(to_date(right(c.relname, 6), 'YYYYMM'))
         > (SELECT applied_on::timestamptz FROM plumbing_history WHERE version = 1)), '-infinity')
UNION ALL SELECT 'inbox', '-infinity'
UNION ALL SELECT 'dead_letter', '-infinity';

CREATE FUNCTION kept_only_since(kind text, at timestamptz) RETURNS void
    LANGUAGE sql SET search_path FROM CURRENT AS $$
    INSERT INTO kept_since (what, since) VALUES (kind, at)
    ON CONFLICT (what) DO UPDATE SET since = greatest(kept_since.since, excluded.since) $$;

-- Asked for by the version before, in the relay's own session.
CREATE OR REPLACE FUNCTION outbox_maintain(keep_days integer) RETURNS void LANGUAGE sql AS '';

-- Makes a month's partition, unless it is there; says whether it did. It waits for nobody who reads
-- the log, since everybody else would wait behind it: it fails instead. Events that lie in the
-- default partition stay there, and the month's own begins on the day after the last of them.
CREATE FUNCTION outbox_add_month(month date) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    opens  timestamptz := date_trunc('month', month::timestamp) AT TIME ZONE 'UTC';
    closes timestamptz := (date_trunc('month', month::timestamp) + interval '1 month')
                          AT TIME ZONE 'UTC';
    name   text := 'outbox_' || to_char(month, 'YYYYMM');
    last   timestamptz;
BEGIN
    IF to_regclass(name) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- This one is in nobody's way but other maintenance's.
    LOCK TABLE ONLY outbox IN SHARE UPDATE EXCLUSIVE MODE;
    LOCK TABLE outbox_default IN ACCESS EXCLUSIVE MODE NOWAIT;
    SELECT max(created_at) INTO last FROM outbox_default
    WHERE created_at >= opens AND created_at < closes;
    IF last IS NOT NULL THEN
        opens := (date_trunc('day', last AT TIME ZONE 'UTC') + interval '1 day') AT TIME ZONE 'UTC';
    END IF;
    IF opens >= closes THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE outbox INCLUDING DEFAULTS)', name);
    EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON %I FROM %I',
        name, 'hospital_' || current_schema());
    EXECUTE format('ALTER TABLE outbox ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        name, opens, closes);
    RETURN true;
END $$;

-- The months that are past retention, as far as all of their events are published.
CREATE FUNCTION outbox_old_months(keep_days integer) RETURNS SETOF text
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    old       record;
    published boolean;
BEGIN
    IF outbox_relay_lost() IS NOT NULL THEN
        RETURN;
    END IF;
    FOR old IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'outbox'::regclass AND c.relname ~ '^outbox_[0-9]{6}$'
          AND to_date(right(c.relname, 6), 'YYYYMM') + interval '1 month'
            < (now() - make_interval(days => greatest(keep_days, 7))) AT TIME ZONE 'UTC'
        ORDER BY c.relname
    LOOP
        EXECUTE format('SELECT NOT EXISTS (SELECT 1 FROM %I o, outbox_relay r
            WHERE o.xid >= pg_snapshot_xmin(r.snapshot)
              AND NOT pg_visible_in_snapshot(o.xid, r.snapshot))', old.relname) INTO published;
        IF published THEN
            RETURN NEXT old.relname;
        END IF;
    END LOOP;
END $$;

-- Forgets such a month. Dropping it needs a moment in which nobody uses the log at all, and fails
-- where there is none. Emptying it needs one in which nobody reads this month, and bookings do not
-- come near it.
CREATE FUNCTION outbox_forget_month(name text, keep_days integer, drops boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM outbox_old_months(keep_days) AS old WHERE old = name) THEN
        RAISE EXCEPTION '% is to be kept', name USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF drops THEN
        LOCK TABLE ONLY outbox IN ACCESS EXCLUSIVE MODE NOWAIT;
        LOCK TABLE outbox_default IN ACCESS EXCLUSIVE MODE NOWAIT;
    END IF;
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE NOWAIT', name);
    EXECUTE format(CASE WHEN drops THEN 'DROP TABLE %I' ELSE 'TRUNCATE %I' END, name);
    PERFORM kept_only_since('outbox',
        (to_date(right(name, 6), 'YYYYMM') + interval '1 month') AT TIME ZONE 'UTC');
END $$;

-- Removes up to so many events past retention that no month's partition took. Gives how many.
CREATE FUNCTION outbox_forget_default(keep_days integer, most integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    cutoff timestamptz := now() - make_interval(days => greatest(keep_days, 7));
    gone   bigint;
BEGIN
    IF outbox_relay_lost() IS NOT NULL THEN
        RETURN 0;
    END IF;
    DELETE FROM outbox_default WHERE ctid = ANY (ARRAY(
        SELECT d.ctid FROM outbox_default d, outbox_relay r
        WHERE d.created_at < cutoff AND pg_visible_in_snapshot(d.xid, r.snapshot) LIMIT most));
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        PERFORM kept_only_since('outbox', cutoff);
    END IF;
    RETURN gone;
END $$;

-- Rows come in by the time at which they are received, so this costs next to nothing to keep.
CREATE INDEX inbox_age ON inbox USING brin (received_at) WITH (pages_per_range = 32);
CREATE FUNCTION inbox_forget(keep_days integer, most integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    cutoff timestamptz := now() - make_interval(days => greatest(keep_days, 30));
    gone   bigint;
BEGIN
    DELETE FROM inbox WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM inbox WHERE received_at < cutoff LIMIT most));
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        PERFORM kept_only_since('inbox', cutoff);
    END IF;
    RETURN gone;
END $$;

CREATE INDEX dead_letter_closed ON dead_letter (closed_at) WHERE closed_at IS NOT NULL;
CREATE FUNCTION dead_letter_forget(keep_days integer, most integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    cutoff timestamptz := now() - make_interval(days => greatest(keep_days, 30));
    gone   bigint;
BEGIN
    DELETE FROM dead_letter WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM dead_letter WHERE closed_at < cutoff LIMIT most));
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        PERFORM kept_only_since('dead_letter', cutoff);
    END IF;
    RETURN gone;
END $$;

-- How the last maintenance went, whoever did it.
CREATE TABLE maintenance (
    single  boolean     PRIMARY KEY DEFAULT true CONSTRAINT maintenance_single CHECK (single),
    -- When it last ended, and what it could not do then.
    at      timestamptz NOT NULL DEFAULT now(),
    problem text,
    -- When it last did all that it should.
    done_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO maintenance DEFAULT VALUES;
CREATE FUNCTION maintenance_ended(what text) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    UPDATE maintenance
    SET at = now(), problem = what, done_at = CASE WHEN what IS NULL THEN now() ELSE done_at END $$;
