-- Why: messages say with whom an appointment is. And a patient whom the patient service does not
-- know is asked for again, since one such answer ended a patient's messages for good.
-- Locks: `contact`, for as long as one reading of it takes; who fetches or waits for a contact
-- point waits that long.
-- The version before works on, and sends without names. What it writes about a patient who is
-- unknown is refused by `contact_known`: it says that contact points cannot be fetched at the
-- moment, and asks for that patient again every ten seconds.

-- What practitioners are called: a copy, readable by this service's role only.
CREATE TABLE practitioner (
    practitioner_id uuid CONSTRAINT practitioner_of PRIMARY KEY,
    name            text NOT NULL
);

-- How often in a row the patient service has said that there is no such patient. Where it has said
-- so to the last, `next_fetch_at` is infinity, until there is something new to tell the patient.
ALTER TABLE contact ADD COLUMN missing integer NOT NULL DEFAULT 0;
UPDATE contact SET known_version = 0, next_fetch_at = now() WHERE known_version = 2147483647;
ALTER TABLE contact ADD CONSTRAINT contact_known CHECK (known_version < 2147483647) NOT VALID;
