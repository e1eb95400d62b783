-- Why: what is told to patients, and the service's own copy of how they are reached.
-- Locks: nothing that exists.

-- A copy of contact points, readable by this service's role only. `wanted_version` is what events have announced, `known_version` what the
-- patient service has answered; 0 is nothing yet.
CREATE TABLE contact (
    patient_id     uuid        CONSTRAINT contact_of PRIMARY KEY,
    wanted_version integer     NOT NULL,
    known_version  integer     NOT NULL DEFAULT 0,
    email          text,
    next_fetch_at  timestamptz NOT NULL DEFAULT now(),
    -- Failures in a row since the last answer.
    failures       integer     NOT NULL DEFAULT 0
);
CREATE INDEX contact_to_fetch ON contact (next_fetch_at) WHERE known_version < wanted_version;

CREATE TABLE delivery (
    id              uuid        CONSTRAINT delivery_id PRIMARY KEY,
    version         integer     NOT NULL DEFAULT 1,
    event_id        uuid        NOT NULL,
    kind            text        NOT NULL CONSTRAINT delivery_kind CHECK (kind IN
        ('appointment-booked', 'appointment-rescheduled', 'appointment-cancelled', 'bill-issued', 'payment-completed', 'payment-failed')),
    channel         text        NOT NULL,
    -- Known once the contact point is; fixed from then on.
    recipient       text,
    patient_id      uuid        NOT NULL,
    appointment_id  uuid,
    bill_id         uuid,
    subject         text        NOT NULL,
    body            text        NOT NULL,
    status          text        NOT NULL CONSTRAINT delivery_status CHECK (status IN ('pending', 'sent', 'dead', 'undeliverable', 'obsolete')),
    attempts        integer     NOT NULL DEFAULT 0,
    -- When it is tried next; while it is being sent, when somebody else may try.
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    error           text,
    created_at      timestamptz NOT NULL,
    sent_at         timestamptz,
    -- One patient is one recipient of a channel, so this is once per event, channel and recipient.
    CONSTRAINT delivery_once UNIQUE (event_id, channel),
    CONSTRAINT delivery_sent_at CHECK ((status = 'sent') = (sent_at IS NOT NULL))
);
CREATE INDEX delivery_due ON delivery (next_attempt_at) WHERE status = 'pending';
CREATE INDEX delivery_by_patient ON delivery (patient_id, id);
CREATE INDEX delivery_by_appointment ON delivery (appointment_id) WHERE appointment_id IS NOT NULL;
CREATE INDEX delivery_by_bill ON delivery (bill_id) WHERE bill_id IS NOT NULL;
