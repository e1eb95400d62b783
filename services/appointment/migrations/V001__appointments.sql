-- Why: practitioners, appointments, and the reservations that make a double booking impossible.
-- Locks: nothing that exists.

-- A practitioner. The row is also what bookings lock, so that a race for one slot queues up instead of deadlocking in the exclusion
-- constraint.
CREATE TABLE practitioner (
    id         uuid        NOT NULL,
    version    integer     NOT NULL DEFAULT 1,
    name       text        NOT NULL,
    specialty  text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT practitioner_once PRIMARY KEY (id)
);

CREATE TABLE practitioner_identifier (
    system          text NOT NULL,
    value           text NOT NULL,
    practitioner_id uuid NOT NULL,
    CONSTRAINT practitioner_identifier_once PRIMARY KEY (system, value),
    CONSTRAINT practitioner_identifier_owner FOREIGN KEY (practitioner_id) REFERENCES practitioner (id)
);
CREATE INDEX practitioner_identifier_by_practitioner ON practitioner_identifier (practitioner_id);

CREATE TABLE appointment (
    id              uuid        NOT NULL,
    version         integer     NOT NULL,
    patient_id      uuid        NOT NULL,
    practitioner_id uuid        NOT NULL,
    starts_at       timestamptz NOT NULL,
    ends_at         timestamptz NOT NULL,
    status          text        NOT NULL,
    service_type    text        NOT NULL,
    -- Clinical: never in an event, a log or an error.
    reason          text,
    back_dated      boolean     NOT NULL,
    cancelled_by    text,
    cancel_reason   text,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    CONSTRAINT appointment_once PRIMARY KEY (id),
    CONSTRAINT appointment_practitioner_known FOREIGN KEY (practitioner_id) REFERENCES practitioner (id),
    CONSTRAINT appointment_ends_after_start CHECK (ends_at > starts_at),
    CONSTRAINT appointment_status_known CHECK (status IN ('waitlisted', 'held', 'booked', 'arrived', 'checked-in',
        'completed', 'cancelled', 'noshow', 'entered-in-error')),
    CONSTRAINT appointment_cancelled_by_known CHECK (cancelled_by IN ('patient', 'hospital')),
    CONSTRAINT appointment_cancelled_has_author CHECK ((status = 'cancelled') = (cancelled_by IS NOT NULL))
);
-- Lists are ordered by (starts_at, id). A patient has few enough appointments to be sorted when they are asked for.
CREATE INDEX appointment_by_patient ON appointment (patient_id, starts_at);
CREATE INDEX appointment_by_practitioner ON appointment (practitioner_id, starts_at, id);
CREATE INDEX appointment_by_start ON appointment (starts_at, id);

-- Ids that other systems know an appointment by.
CREATE TABLE appointment_identifier (
    system         text NOT NULL,
    value          text NOT NULL,
    appointment_id uuid NOT NULL,
    CONSTRAINT appointment_identifier_once PRIMARY KEY (system, value),
    CONSTRAINT appointment_identifier_owner FOREIGN KEY (appointment_id) REFERENCES appointment (id)
);
CREATE INDEX appointment_identifier_by_appointment ON appointment_identifier (appointment_id);

-- One row per resource (practitioner, patient) of an appointment that takes up their time. Half-open ranges: 10:00-10:30 and
-- 10:30-11:00 touch without conflict. There is no foreign key: each row is written and removed in the transaction that writes the
-- appointment's own row, and two more checks a booking would only repeat that.
CREATE TABLE reservation (
    appointment_id uuid      NOT NULL,
    resource_id    uuid      NOT NULL,
    during         tstzrange NOT NULL,
    CONSTRAINT reservation_once PRIMARY KEY (appointment_id, resource_id),
    CONSTRAINT reservation_no_overlap EXCLUDE USING gist (resource_id WITH =, during WITH &&)
);

-- Every step of every appointment, with the time it had after the step.
CREATE TABLE history (
    appointment_id uuid        NOT NULL,
    version        integer     NOT NULL,
    at             timestamptz NOT NULL,
    actor          text        NOT NULL,
    from_status    text,
    to_status      text        NOT NULL,
    starts_at      timestamptz NOT NULL,
    ends_at        timestamptz NOT NULL,
    reason         text,
    CONSTRAINT history_once PRIMARY KEY (appointment_id, version)
);
