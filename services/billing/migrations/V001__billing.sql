-- Why: the price list, bills and their lines, payments, and what the sandbox gateway remembers.
-- Locks: nothing that exists.

CREATE TABLE service_type (
    code       text        CONSTRAINT service_type_code PRIMARY KEY,
    name       text        NOT NULL,
    -- Minor units; null when the price is found at the visit.
    price      bigint      CONSTRAINT service_type_price CHECK (price >= 0),
    currency   text,
    version    integer     NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT service_type_price_has_currency CHECK ((price IS NULL) = (currency IS NULL))
);

CREATE TABLE bill (
    id                    uuid        CONSTRAINT bill_id PRIMARY KEY,
    version               integer     NOT NULL,
    number                text        CONSTRAINT bill_number_once UNIQUE,
    appointment_id        uuid        NOT NULL CONSTRAINT bill_once_per_appointment UNIQUE,
    patient_id            uuid        NOT NULL,
    currency              text        NOT NULL,
    -- Decimals of the currency, so that amounts can be written out in SQL.
    exponent              smallint    NOT NULL,
    total                 bigint      NOT NULL,
    paid                  bigint      NOT NULL DEFAULT 0,
    reserved              bigint      NOT NULL DEFAULT 0,
    state                 text        NOT NULL CONSTRAINT bill_state CHECK (state IN ('draft', 'issued', 'cancelled')),
    appointment_cancelled boolean     NOT NULL DEFAULT false,
    back_dated            boolean     NOT NULL,
    created_at            timestamptz NOT NULL,
    issued_at             timestamptz,
    status                text        GENERATED ALWAYS AS (CASE
        WHEN state <> 'issued' THEN state
        WHEN paid = total THEN 'paid'
        WHEN paid > 0 THEN 'partially-paid'
        ELSE 'issued' END) STORED,
    -- Whatever happens at once: never more than the total, never below nothing.
    CONSTRAINT bill_not_overpaid CHECK (paid >= 0 AND reserved >= 0 AND paid + reserved <= total),
    CONSTRAINT bill_takes_payments CHECK (state = 'issued' OR (paid = 0 AND reserved = 0)),
    CONSTRAINT bill_numbered_on_issue CHECK (state <> 'issued' OR number IS NOT NULL),
    -- What payments point to: a payment is in its bill's currency.
    CONSTRAINT bill_currency UNIQUE (id, currency)
) WITH (fillfactor = 80);
CREATE INDEX bill_by_patient ON bill (patient_id, id);

CREATE TABLE bill_line (
    bill_id     uuid    NOT NULL CONSTRAINT bill_line_of REFERENCES bill,
    place       integer NOT NULL,
    code        text    NOT NULL,
    description text    NOT NULL,
    quantity    integer NOT NULL CONSTRAINT bill_line_quantity CHECK (quantity BETWEEN 1 AND 10000),
    unit_price  bigint  NOT NULL CONSTRAINT bill_line_unit_price CHECK (unit_price >= 0),
    amount      bigint  NOT NULL,
    CONSTRAINT bill_line_once PRIMARY KEY (bill_id, place),
    CONSTRAINT bill_line_amount CHECK (amount = quantity * unit_price)
);

-- The last number given out in a year of the facility; its row's lock keeps the numbers gap-free.
CREATE TABLE bill_counter (
    year integer CONSTRAINT bill_counter_year PRIMARY KEY,
    last bigint  NOT NULL
);

-- Appointments that were cancelled before their booking arrived: topics are not ordered among each other.
CREATE TABLE cancelled_appointment (
    appointment_id uuid CONSTRAINT cancelled_appointment_once PRIMARY KEY
);

CREATE TABLE payment (
    id            uuid        CONSTRAINT payment_id PRIMARY KEY,
    version       integer     NOT NULL,
    bill_id       uuid        NOT NULL,
    amount        bigint      NOT NULL CONSTRAINT payment_amount_positive CHECK (amount > 0),
    currency      text        NOT NULL,
    method        text        NOT NULL CONSTRAINT payment_method CHECK (method IN ('cash', 'cheque', 'transfer', 'card')),
    status        text        NOT NULL
        CONSTRAINT payment_status CHECK (status IN ('pending', 'succeeded', 'failed', 'unknown', 'conflicted')),
    failure       text,
    reference     text,
    -- Whose key asked for it, so that an answer found later can be stored for repetitions.
    caller        text        NOT NULL,
    route         text        NOT NULL,
    key           text        NOT NULL,
    created_at    timestamptz NOT NULL,
    settled_at    timestamptz,
    -- When the gateway is to be asked, and how often it was.
    next_check_at timestamptz,
    checks        integer     NOT NULL DEFAULT 0,
    -- Checked at the commit: an immediate key would lock a hot bill for as long as its payments take.
    CONSTRAINT payment_bill_exists FOREIGN KEY (bill_id, currency) REFERENCES bill (id, currency) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT payment_failure_has_code CHECK ((status = 'failed') = (failure IS NOT NULL))
);
CREATE INDEX payment_by_bill ON payment (bill_id, id);
CREATE INDEX payment_by_reference ON payment (reference) WHERE reference IS NOT NULL;
CREATE INDEX payment_to_check ON payment (next_check_at) WHERE status IN ('pending', 'unknown');

-- The sandbox gateway's own memory. It stands for a foreign system and is never part of a business transaction.
CREATE TABLE sandbox_charge (
    payment_id uuid   CONSTRAINT sandbox_charge_once PRIMARY KEY,
    amount     bigint NOT NULL,
    currency   text   NOT NULL,
    outcome    text   NOT NULL CONSTRAINT sandbox_charge_outcome CHECK (outcome IN ('processing', 'charged', 'declined', 'insufficient', 'void'))
);

-- An amount of minor units in plain decimal notation.
CREATE FUNCTION amount_text(minor bigint, exponent smallint) RETURNS text
    LANGUAGE sql IMMUTABLE AS $$ SELECT round(minor::numeric / (10::numeric ^ exponent::integer), exponent::integer)::text $$;
