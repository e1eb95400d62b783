-- Why: what patients were told, in words, was kept for ever.
-- Locks: writers of messages wait while the indexes are built, some seconds for each million.

-- Rows come in by these times, so this costs next to nothing to keep.
CREATE INDEX delivery_age ON delivery USING brin (created_at) WITH (pages_per_range = 32);
CREATE INDEX dispatch_age ON dispatch USING brin (lapses_at) WITH (pages_per_range = 32);

INSERT INTO kept_since (what, since) VALUES ('delivery', '-infinity');

-- Removes up to so many old messages of which nothing is to be done any more.
CREATE FUNCTION delivery_forget(keep_days integer, most integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    cutoff timestamptz := now() - make_interval(days => greatest(keep_days, 30));
    gone   bigint;
BEGIN
    DELETE FROM delivery WHERE ctid = ANY (ARRAY(
        SELECT d.ctid FROM delivery d LEFT JOIN dispatch p ON p.id = d.dispatch
        WHERE d.created_at < cutoff AND (d.status <> 'pending' OR p.sent_at IS NOT NULL)
        LIMIT most));
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        PERFORM kept_only_since('delivery', cutoff);
    END IF;
    RETURN gone;
END $$;

-- A message is as its dispatch is, so dispatches go after their messages.
CREATE FUNCTION dispatch_forget(keep_days integer, most integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    cutoff timestamptz := now() - make_interval(days => greatest(keep_days, 30) + 2);
    gone   bigint;
BEGIN
    IF EXISTS (SELECT 1 FROM delivery
               WHERE created_at < cutoff + interval '1 day' AND dispatch IS NOT NULL) THEN
        RETURN 0;
    END IF;
    DELETE FROM dispatch WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM dispatch WHERE lapses_at < cutoff AND sent_at IS NOT NULL LIMIT most));
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;
