-- Gives the topics of the PostgreSQL bus to whom they belong by bus.publisher. Safe to run again.

UPDATE bus.partition SET writer = bus.writer_of(topic) WHERE writer IS DISTINCT FROM bus.writer_of(topic);

-- Who may append to a topic: of constants, as looking it up would cost a publication of one record a sixth of its time. Made anew when
-- the catalogue of events has changed.
DO $$
DECLARE
    own text := (SELECT array_agg(topic || ' ' || role ORDER BY topic) FROM bus.publisher);
BEGIN
    IF own IS DISTINCT FROM (SELECT obj_description(oid, 'pg_policy') FROM pg_policy
                             WHERE polrelid = 'bus.message'::regclass AND polname = 'message_of_own_topic') THEN
        DROP POLICY IF EXISTS message_of_own_topic ON bus.message;
        EXECUTE format('CREATE POLICY message_of_own_topic ON bus.message FOR INSERT WITH CHECK (
            topic || '' '' || current_user = ANY (%L::text[])
            OR ''hospital_'' || substring(topic FROM ''^.+[.]([a-z]+)[.]dlq$'') = current_user)', own);
        EXECUTE format('COMMENT ON POLICY message_of_own_topic ON bus.message IS %L', own);
    END IF;
END $$;
