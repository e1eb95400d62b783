-- Why: that the gateway is to be asked again about a payment is a job now (`payment.reconcile`), and
-- its next time a column of the job's.
-- Locks: payment against writers while its open rows are looked for once.
-- The version before works on. What it writes has `next_check_at`: the trigger makes a job of it, and
-- both ask. What this version writes has none, so that the version before leaves it alone. The column,
-- `checks`, their index and the trigger go when no replica of that version is left.

CREATE FUNCTION payment_reconciled_by_job() RETURNS trigger
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO job (kind, key, payload, held_until)
    VALUES ('payment.reconcile', NEW.id::text, jsonb_build_object('payment', NEW.id),
            NEW.next_check_at)
    ON CONFLICT ON CONSTRAINT job_once DO NOTHING;
    RETURN NULL;
END $$;

-- First, so that nothing is written between this and what follows.
CREATE TRIGGER payment_reconciled_by_job AFTER INSERT ON payment FOR EACH ROW
    WHEN (NEW.next_check_at IS NOT NULL) EXECUTE FUNCTION payment_reconciled_by_job();

INSERT INTO job (kind, key, payload, held_until, attempts)
SELECT 'payment.reconcile', id::text, jsonb_build_object('payment', id),
       coalesce(next_check_at, now()), checks
FROM payment WHERE status IN ('pending', 'unknown');
