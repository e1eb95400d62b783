-- Why: what a consumer could not apply, with what waits behind it, so that a key's order survives a poisoned event; and who did what about it.
-- Locks: nothing that exists.

-- The dead letters of this service's consumers. The dead-letter topics are copies of it for others to read.
CREATE TABLE dead_letter (
    seq       bigint GENERATED ALWAYS AS IDENTITY,
    consumer  text        NOT NULL,
    -- The event's id, or one made of the record's place and bytes where it names none.
    id        uuid        NOT NULL,
    state     text        NOT NULL CONSTRAINT dead_letter_state CHECK (state IN ('dead', 'waiting', 'due', 'applied', 'dropped')),
    topic     text        NOT NULL,
    partition integer     NOT NULL,
    "offset"  bigint      NOT NULL,
    key       text,
    -- Whose later events wait behind it; nobody's where it is no event, or its key no aggregate's id.
    aggregate uuid,
    -- The version that its payload names; 0 where it cannot be read.
    version   integer     NOT NULL,
    headers   jsonb       NOT NULL,
    value     bytea       NOT NULL,
    reason    text        NOT NULL,
    attempts  integer     NOT NULL,
    redrives  integer     NOT NULL DEFAULT 0,
    first_at  timestamptz NOT NULL,
    last_at   timestamptz NOT NULL,
    closed_at timestamptz,
    CONSTRAINT dead_letter_once PRIMARY KEY (consumer, id),
    CONSTRAINT dead_letter_closed_at CHECK ((state IN ('applied', 'dropped')) = (closed_at IS NOT NULL))
);
CREATE INDEX dead_letter_held ON dead_letter (consumer, aggregate, version, seq) WHERE closed_at IS NULL;
CREATE INDEX dead_letter_open ON dead_letter (consumer, seq) WHERE closed_at IS NULL;

-- What people did to dead letters and event logs. The service's role may only read it, and nobody changes or removes a row.
CREATE TABLE intervention (
    seq      bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT intervention_once PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor    text        NOT NULL,
    act      text        NOT NULL CONSTRAINT intervention_act CHECK (act IN ('redrive', 'drop', 'replay', 'refill')),
    reason   text        NOT NULL,
    consumer text,
    letter   uuid,
    detail   jsonb       NOT NULL
);
CREATE INDEX intervention_by_letter ON intervention (letter) WHERE letter IS NOT NULL;
CREATE FUNCTION intervention_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'interventions are never changed' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER intervention_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON intervention
    FOR EACH STATEMENT EXECUTE FUNCTION intervention_stays();
