-- Why: patients, the names they are found by, and the identifiers that other systems know them by.
-- Locks: nothing that exists.

CREATE TABLE patient (
    id          uuid        CONSTRAINT patient_id PRIMARY KEY,
    version     integer     NOT NULL,
    status      text        NOT NULL CONSTRAINT patient_status CHECK (status IN ('active', 'inactive')),
    given_name  text        NOT NULL,
    family_name text        NOT NULL,
    birth_date  date        NOT NULL,
    gender      text        NOT NULL CONSTRAINT patient_gender CHECK (gender IN ('female', 'male', 'other', 'unknown')),
    phone       text,
    email       text,
    language    text,
    address     jsonb,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
);
CREATE INDEX patient_by_birth_date ON patient (birth_date);
CREATE INDEX patient_by_phone ON patient (phone) WHERE phone IS NOT NULL;
CREATE INDEX patient_by_status ON patient (status, id);

-- The words of a patient's names without accents and case: a search is a range of this index for every word asked for.
CREATE TABLE patient_name (
    patient_id uuid NOT NULL CONSTRAINT patient_name_of REFERENCES patient,
    word       text COLLATE "C" NOT NULL,
    CONSTRAINT patient_name_once PRIMARY KEY (word, patient_id)
);
CREATE INDEX patient_name_by_patient ON patient_name (patient_id);

CREATE TABLE patient_identifier (
    patient_id uuid NOT NULL CONSTRAINT patient_identifier_of REFERENCES patient,
    system     text NOT NULL,
    value      text NOT NULL,
    CONSTRAINT patient_identifier_taken PRIMARY KEY (system, value)
);
CREATE INDEX patient_identifier_by_patient ON patient_identifier (patient_id);

-- Who changed what when. Says which kind of change, not the values.
CREATE TABLE patient_history (
    patient_id uuid        NOT NULL,
    version    integer     NOT NULL,
    at         timestamptz NOT NULL,
    actor      text        NOT NULL,
    change     text        NOT NULL,
    reason     text,
    CONSTRAINT patient_history_once PRIMARY KEY (patient_id, version)
);
-- What was written of the past stays: the service itself cannot change it.
REVOKE UPDATE, DELETE, TRUNCATE ON patient_history FROM hospital_patient;
