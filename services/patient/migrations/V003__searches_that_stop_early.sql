-- Why: a search by name together with a year of birth, or for who is inactive, read everybody of that name; one by birth date for who
-- is inactive everybody born then. Now an index begins with what is asked for, so that a page stops when it is full.
-- Locks: `patient` and `patient_name` against everything while their columns are added, which rewrites nothing, and against writes
-- while the indexes are built: some seconds for a million patients. Those of `patient_name` are empty at first: the background fills
-- them with everybody's entries, and until then searches read as before. The version before keeps working: it uses none of this, and
-- whom it writes the background writes anew.

ALTER TABLE patient_name
    -- The year and the month of birth, 0 if nobody knows them.
    ADD COLUMN born integer,
    ADD COLUMN born_month integer,
    ADD COLUMN inactive boolean;
CREATE INDEX patient_name_by_year ON patient_name (born, word, patient_id) WHERE born IS NOT NULL;
CREATE INDEX patient_name_inactive ON patient_name (word, patient_id) WHERE inactive;
CREATE INDEX patient_name_inactive_by_year ON patient_name (born, word, patient_id) WHERE inactive AND born IS NOT NULL;

-- What the patient's entries in patient_name were made of, and the version of the folding. The version after next may drop `folded`
-- and patient_to_fold.
ALTER TABLE patient ADD COLUMN entries text;
CREATE INDEX patient_to_enter ON patient (id)
    WHERE entries IS DISTINCT FROM
          '2/' || given_name || '/' || family_name || '/' || (birth_date - date '0001-01-01')::text || birth_precision || '/' || status;

CREATE INDEX patient_inactive_by_birth ON patient (birth_precision, birth_date, id) WHERE status = 'inactive';
