-- Why: work that is done later, or again until it succeeds, was a column in one table and a loop in
-- another, each with its own lease and pauses. A job is a row; what is done with it is one mechanism.
-- Locks: the table of interventions, for a moment.
-- The version before works on: it does not know the table.

CREATE TABLE job (
    kind        text        NOT NULL,
    -- What it is about. A kind has one job for each.
    key         text        NOT NULL,
    payload     jsonb       NOT NULL,
    -- When it is to be done, by the service's clock; null is at once.
    due_at      timestamptz,
    -- Until when nobody takes it, by the database's clock: the lease of who works on it, or the
    -- pause before the next attempt.
    held_until  timestamptz NOT NULL DEFAULT now(),
    -- Who works on it. Nobody else can say what became of it.
    lease       uuid,
    attempts    integer     NOT NULL DEFAULT 0,
    -- How often it was asked for. When that has changed while it was worked on, it is done again.
    asked       integer     NOT NULL DEFAULT 1,
    -- Why the last attempt did not succeed.
    reason      text,
    -- When it was given up; it stays until somebody decides.
    died_at     timestamptz,
    -- The trace of what asked for it.
    traceparent text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    -- The key first: by the kind, plans that are made while there are few jobs read all of it.
    CONSTRAINT job_once PRIMARY KEY (key, kind),
    CONSTRAINT job_death CHECK (died_at IS NULL OR (reason IS NOT NULL AND lease IS NULL))
);
CREATE INDEX job_next ON job (kind, greatest(due_at, held_until)) WHERE died_at IS NULL;

ALTER TABLE intervention
    DROP CONSTRAINT intervention_act,
    ADD CONSTRAINT intervention_act
        CHECK (act IN ('redrive', 'drop', 'replay', 'refill', 'retry', 'cancel'));
