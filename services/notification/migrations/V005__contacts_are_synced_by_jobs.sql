-- Why: that the patient service is to be asked how a patient is reached is a job now (`contact.sync`),
-- and when it is asked next a column of the job's. What is known of the patient stays here.
-- Locks: contact against writers while it is read once; who stores a contact or waits for one waits
-- that long.
-- The version before works on. What it wants has `next_fetch_at`: the trigger makes a job of it, and
-- both ask. What this version wants has none, so that the version before leaves it alone. To both,
-- infinity is a patient whom the patient service does not know, to the last. The trigger and the
-- column's default go when no replica of that version is left.

ALTER TABLE contact ALTER COLUMN next_fetch_at DROP NOT NULL;
-- The rights that are declared follow when all migrations are through; the trigger needs it at once.
GRANT UPDATE ON job TO hospital_notification;

CREATE FUNCTION contact_synced_by_job() RETURNS trigger
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO job AS j (kind, key, payload)
    VALUES ('contact.sync', NEW.patient_id::text, jsonb_build_object('patient', NEW.patient_id))
    ON CONFLICT ON CONSTRAINT job_once DO UPDATE SET asked = j.asked + 1, died_at = NULL,
        attempts = CASE WHEN j.died_at IS NULL THEN j.attempts ELSE 0 END,
        reason = CASE WHEN j.died_at IS NULL THEN j.reason END;
    RETURN NULL;
END $$;

-- First, so that nothing is written between this and what follows.
CREATE TRIGGER contact_synced_by_job AFTER INSERT OR UPDATE OF wanted_version, next_fetch_at
    ON contact FOR EACH ROW
    WHEN (NEW.known_version < NEW.wanted_version AND NEW.next_fetch_at < 'infinity')
    EXECUTE FUNCTION contact_synced_by_job();

INSERT INTO job (kind, key, payload, held_until, attempts)
SELECT 'contact.sync', patient_id::text, jsonb_build_object('patient', patient_id), next_fetch_at,
       failures
FROM contact WHERE known_version < wanted_version AND next_fetch_at < 'infinity';
