-- Why: a statement that must find exactly so many rows (a hold that is still held, a bill that is still open) ends its transaction when it
-- does not, in the round trip that it is sent in. What it found could be read only after the COMMIT behind it.
-- Locks: nothing that exists. The version before works on.

-- Whether a statement changed as many rows as it must. If not, the transaction ends as at a constraint that is called as the rule is.
CREATE FUNCTION expect_rows(changed bigint, expected bigint, rule text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF changed <> expected THEN
        RAISE EXCEPTION '%: % rows, not %', rule, changed, expected USING ERRCODE = 'RW001', CONSTRAINT = rule;
    END IF;
END $$;
