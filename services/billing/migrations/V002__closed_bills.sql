-- Why: the bill of a cancelled appointment takes no more money, whoever asks and whenever. A payment of which
-- the gateway charged another amount is settled by a person, who says why. A key is remembered for as long as
-- the payment that it asked for is open.
-- Locks: bill, payment and idempotency against everything for as long as it takes to add two empty columns and
-- the triggers, which rewrites nothing; payment also against writing while its open rows are looked for once.
-- The version before goes on working: to it, too, the new refusal is one of bill_takes_payments.

CREATE FUNCTION bill_refuse_payment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the bill of a cancelled appointment takes no more payments'
        USING ERRCODE = 'check_violation', CONSTRAINT = 'bill_takes_payments';
END $$;

-- What was reserved before may still be paid or released: together they only never grow. After the update, for before
-- it PostgreSQL locks each row once more to show it to the condition.
CREATE TRIGGER bill_takes_payments AFTER UPDATE OF paid, reserved ON bill FOR EACH ROW
    WHEN (OLD.appointment_cancelled AND NEW.paid + NEW.reserved > OLD.paid + OLD.reserved)
    EXECUTE FUNCTION bill_refuse_payment();

-- What the gateway says it charged, where that is not what was asked for.
ALTER TABLE payment
    ADD COLUMN charged          bigint,
    ADD COLUMN charged_currency text,
    ADD CONSTRAINT payment_charged_has_currency CHECK ((charged IS NULL) = (charged_currency IS NULL)) NOT VALID;

-- How a conflicted payment was settled, by whom and why.
CREATE TABLE payment_settlement (
    payment_id uuid        CONSTRAINT payment_settlement_once PRIMARY KEY
                           CONSTRAINT payment_settlement_of REFERENCES payment,
    outcome    text        NOT NULL
                           CONSTRAINT payment_settlement_outcome CHECK (outcome IN ('succeeded', 'failed')),
    -- Minor units: what was asked for before the gateway charged something else.
    asked      bigint      NOT NULL,
    reason     text        NOT NULL,
    actor      text        NOT NULL,
    at         timestamptz NOT NULL
);
REVOKE UPDATE, DELETE, TRUNCATE ON payment_settlement FROM hospital_billing;

-- Keys are forgotten after 72 hours, but not while the payment is open: sent again, it would be charged again.
CREATE INDEX payment_open ON payment (key) WHERE status IN ('pending', 'unknown', 'conflicted');

CREATE FUNCTION idempotency_keep_open() RETURNS trigger
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT FROM payment p
               WHERE p.key = OLD.key AND p.caller = OLD.caller AND p.route = OLD.route
                 AND p.status IN ('pending', 'unknown', 'conflicted')) THEN
        RETURN NULL;
    END IF;
    RETURN OLD;
END $$;

CREATE TRIGGER idempotency_keep_open BEFORE DELETE ON idempotency FOR EACH ROW
    EXECUTE FUNCTION idempotency_keep_open();
