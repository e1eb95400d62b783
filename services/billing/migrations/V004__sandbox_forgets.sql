-- Why: the sandbox gateway remembered every charge for ever.
-- Locks: nothing.

-- Ids rise with time, so only what is older than the time of its id is looked at.
CREATE FUNCTION sandbox_forget(keep_days integer, most integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    cutoff timestamptz := now() - make_interval(days => greatest(keep_days, 30));
    below  uuid := (lpad(to_hex((extract(epoch FROM cutoff) * 1000)::bigint), 12, '0')
                    || repeat('0', 20))::uuid;
    gone   bigint;
BEGIN
    DELETE FROM sandbox_charge WHERE payment_id = ANY (ARRAY(
        SELECT c.payment_id FROM sandbox_charge c JOIN payment p ON p.id = c.payment_id
        WHERE c.payment_id < below AND p.settled_at < cutoff LIMIT most));
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;
