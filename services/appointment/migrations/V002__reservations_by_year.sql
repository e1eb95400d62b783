-- Why: looking for what overlaps costs more, the more reservations an index holds, and those of the years before are of no use to a booking
-- in the coming weeks. Each year has its own index now.
-- Locks: bookings, moves and cancellations wait while the reservations are copied, or are told to come again: about a minute for each million
-- appointments, so choose a quiet hour.
-- The version before works on, with two differences: a time that is taken is a fault to it and not a conflict, and it can neither book a visit
-- across a New Year (UTC) nor move one.
ALTER TABLE reservation RENAME TO reservation_before;
ALTER TABLE reservation_before DROP CONSTRAINT reservation_once, DROP CONSTRAINT reservation_no_overlap;

-- The time that an appointment takes up of each who meets (practitioner, patient), cut where a year ends: two that overlap do so within a
-- year, whose exclusion constraint sees both. Half-open ranges: 10:00-10:30 and 10:30-11:00 touch without conflict. There is no foreign
-- key: each row is written and removed in the transaction that writes the appointment's own row, and two more checks a booking would only
-- repeat that.
CREATE TABLE reservation (
    appointment_id uuid      NOT NULL,
    resource_id    uuid      NOT NULL,
    during         tstzrange NOT NULL
) PARTITION BY RANGE (lower(during));
CREATE INDEX reservation_by_appointment ON reservation (appointment_id);

CREATE FUNCTION pg_temp.new_year(year integer) RETURNS timestamptz LANGUAGE sql AS $$ SELECT make_timestamptz(year, 1, 1, 0, 0, 0, 'UTC') $$;

-- A partition for each year; one for all that is older and one for all that is newer, which stays empty if years are added in time. What
-- reaches into the next partition is refused, since that one's constraint would not see it.
DO $$
DECLARE
    until CONSTANT integer := 2060;
    partition record;
BEGIN
    FOR partition IN
        SELECT 'before_2026' AS name, 'MINVALUE' AS opens, quote_literal(pg_temp.new_year(2026)) AS closes
        UNION ALL
        SELECT year::text, quote_literal(pg_temp.new_year(year)), quote_literal(pg_temp.new_year(year + 1)) FROM generate_series(2026, until - 1) AS year
        UNION ALL
        SELECT 'from_' || until, quote_literal(pg_temp.new_year(until)), 'MAXVALUE'
    LOOP
        EXECUTE format('CREATE TABLE reservation_%s PARTITION OF reservation FOR VALUES FROM (%s) TO (%s)',
            partition.name, partition.opens, partition.closes);
        IF partition.closes <> 'MAXVALUE' THEN
            EXECUTE format('ALTER TABLE reservation_%1$s ADD CONSTRAINT reservation_within__%1$s CHECK (upper(during) <= %2$s)',
                partition.name, partition.closes);
        END IF;
    END LOOP;
    INSERT INTO reservation (appointment_id, resource_id, during)
    SELECT r.appointment_id, r.resource_id, r.during * tstzrange(pg_temp.new_year(year), pg_temp.new_year(year + 1))
    FROM reservation_before r,
        generate_series(extract(year FROM lower(r.during) AT TIME ZONE 'UTC')::integer,
            extract(year FROM (upper(r.during) - interval '1 microsecond') AT TIME ZONE 'UTC')::integer) AS year;
    -- Behind the rows, which is how an index is made fastest.
    FOR partition IN SELECT relid AS name, replace(relid::text, 'reservation_', '') AS year FROM pg_partition_tree('reservation') WHERE isleaf LOOP
        EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I EXCLUDE USING gist (resource_id WITH =, during WITH &&)',
            partition.name, 'reservation_no_overlap__' || partition.year);
    END LOOP;
END
$$;
DROP FUNCTION pg_temp.new_year(integer);
DROP TABLE reservation_before;
