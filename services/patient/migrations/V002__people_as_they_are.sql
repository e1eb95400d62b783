-- Why: people have one name, or none that anybody knows yet; of some birth dates only the year or
-- the month is known; names are found as people type them; phone numbers may have an extension.
-- Locks: `patient` and `patient_name` against everything while their columns are added and checked,
-- and against writes while the indexes are built: some seconds for a million patients. The version
-- before keeps working. It reads a name that is missing as an empty text, a birth date that is not
-- known to the day as the first day that it may be, and one that is not known at all as the first
-- day of the year 1. What it writes is a birth date to the day, and names that are folded again in
-- the background. It does not offer temporary names, and overwrites nothing by not knowing them.
-- Its searches do not find by `ł` and the like whoever was folded anew.

ALTER TABLE patient
    -- '' in given_name or family_name is a name that there is not, and '0001-01-01' a birth date of
    -- which nothing is known.
    ADD COLUMN birth_precision text NOT NULL DEFAULT 'day'
        CONSTRAINT patient_birth_precision CHECK (birth_precision IN ('day', 'month', 'year', 'none')),
    ADD COLUMN birth_estimated boolean NOT NULL DEFAULT false,
    ADD COLUMN temporary_name text,
    -- The names that the patient's entries in patient_name were made of, and the version of the
    -- folding.
    ADD COLUMN folded text,
    ADD CONSTRAINT patient_has_a_name CHECK (given_name <> '' OR family_name <> '' OR temporary_name IS NOT NULL);

-- Two who are not identified are never called alike.
CREATE UNIQUE INDEX patient_temporary_name_taken ON patient (temporary_name) WHERE given_name = '' AND family_name = '';
-- What number the next temporary name is made of.
CREATE SEQUENCE temporary_name;

-- In the order in which a search by birth date gives its pages. The version after next may drop
-- patient_by_birth_date.
CREATE INDEX patient_by_birth ON patient (birth_precision, birth_date, id);
-- A number is found with its extension and without. The version after next may drop
-- patient_by_phone.
CREATE INDEX patient_by_number ON patient (split_part(phone, ';', 1), id) WHERE phone IS NOT NULL;
-- Whose names are to be folded: empty but for the time after an upgrade.
CREATE INDEX patient_to_fold ON patient (id) WHERE folded IS DISTINCT FROM '1/' || given_name || '/' || family_name;

-- All words of the patient, each after a space, in the entries of two words.
ALTER TABLE patient_name ADD COLUMN words text;

-- Until the background has folded everybody, the words that are there are found as people type
-- them, too.
INSERT INTO patient_name (patient_id, word)
SELECT patient_id,
       translate(replace(replace(replace(replace(word, 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th'), 'łøđðħıŧŋəς', 'loddhitneσ')
FROM patient_name WHERE word ~ '[ßæœþłøđðħıŧŋəς]'
ON CONFLICT DO NOTHING;
