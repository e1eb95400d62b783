-- Why: a search by name together with a birth date or a status read everybody of that name; one by
-- birth date and status everybody born then; one by several words that nobody has together
-- thousands of rows. Now an index begins with what is asked for, so that a page stops when it is
-- full, and says by itself what is left out.
-- Locks: `patient` and `patient_name` against everything while their columns are added, which
-- rewrites nothing, and while the indexes are built: some seconds for a million patients, half of
-- them for the primary key of `patient_name`. Its other indexes are empty at first: the background
-- fills them with everybody's entries, and until then searches read as before. The version before
-- keeps working: it uses none of this, and whom it writes the background writes anew. Whom this
-- version writes it finds by each word of the name, but no longer by words written together.

ALTER TABLE patient_name
    -- The year, the month and the day of birth, 0 for what nobody knows. Like `inactive`, the year
    -- is missing where no search comes by.
    ADD COLUMN born integer,
    ADD COLUMN born_month integer,
    ADD COLUMN born_day integer,
    ADD COLUMN inactive boolean;

-- What does not fit into an index is missing in the entries.
UPDATE patient_name SET words = NULL WHERE octet_length(words) > 1000;
CREATE UNIQUE INDEX patient_name_with_words ON patient_name (word, patient_id) INCLUDE (words);
ALTER TABLE patient_name
    DROP CONSTRAINT patient_name_once,
    ADD CONSTRAINT patient_name_once PRIMARY KEY USING INDEX patient_name_with_words;

CREATE INDEX patient_name_by_year ON patient_name (born, word, patient_id)
    INCLUDE (words, born_month, born_day, inactive) WHERE born IS NOT NULL;
CREATE INDEX patient_name_active ON patient_name (word, patient_id)
    INCLUDE (words) WHERE NOT inactive;
CREATE INDEX patient_name_inactive ON patient_name (word, patient_id)
    INCLUDE (words) WHERE inactive;

-- The words that a patient is found by, each after a space, and those written together, each after
-- a tab: for searches that begin elsewhere. Missing where they are too long for an index.
ALTER TABLE patient ADD COLUMN words text;
-- A number may be many people's, such as a home's.
CREATE INDEX patient_by_number_with_words ON patient (split_part(phone, ';', 1), id)
    INCLUDE (phone, status, birth_precision, birth_date, words) WHERE phone IS NOT NULL;
DROP INDEX patient_by_number;

-- What the patient's entries in patient_name were made of, and the version of the folding. The
-- version after next may drop `folded` and patient_to_fold.
ALTER TABLE patient ADD COLUMN entries text;
CREATE INDEX patient_to_enter ON patient (id)
    WHERE entries IS DISTINCT FROM
          '2/' || given_name || '/' || family_name || '/' || (birth_date - date '0001-01-01')::text || birth_precision || '/' || status;

CREATE INDEX patient_active_by_birth ON patient (birth_precision, birth_date, id)
    WHERE status = 'active';
CREATE INDEX patient_inactive_by_birth ON patient (birth_precision, birth_date, id)
    WHERE status = 'inactive';
