-- Why: a bill is priced by what was in force when the appointment was booked, however much later its event is
-- worked off; and a change of a price says who made it.
-- Locks: service_type against changes for a moment. The version before goes on working: the table itself keeps
-- its history, and of a change by that version it is not known whose it was.

CREATE TABLE price_history (
    code       text        NOT NULL,
    version    integer     NOT NULL,
    name       text        NOT NULL,
    price      bigint,
    currency   text,
    valid_from timestamptz NOT NULL,
    -- Unknown for what is older than this table.
    actor      text,
    CONSTRAINT price_history_once PRIMARY KEY (code, version)
);
CREATE INDEX price_history_at ON price_history (code, valid_from);
REVOKE UPDATE, DELETE, TRUNCATE ON price_history FROM hospital_billing;

CREATE FUNCTION service_type_keep_history() RETURNS trigger
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- The clock's time and not the transaction's: it is read under the row's lock, so it rises with the version.
    INSERT INTO price_history (code, version, name, price, currency, valid_from, actor)
    VALUES (NEW.code, NEW.version, NEW.name, NEW.price, NEW.currency, clock_timestamp(),
            nullif(current_setting('hospital.actor', true), ''));
    RETURN NULL;
END $$;

CREATE TRIGGER service_type_begun AFTER INSERT ON service_type FOR EACH ROW
    EXECUTE FUNCTION service_type_keep_history();
CREATE TRIGGER service_type_changed AFTER UPDATE ON service_type FOR EACH ROW
    WHEN (NEW.version <> OLD.version) EXECUTE FUNCTION service_type_keep_history();

-- What is in force is all that is known of the time before.
INSERT INTO price_history (code, version, name, price, currency, valid_from)
SELECT code, version, name, price, currency, '-infinity' FROM service_type;
