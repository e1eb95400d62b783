-- Why: who an intervention is said to be by is a word of whoever typed the command. Beside it stands who the command ran as on its
-- machine, and as whom it was logged in here, which PostgreSQL itself writes down.
-- Locks: the table of interventions, for a moment.
-- The version before works on: what it writes has no user of a machine, and its session all the same.

ALTER TABLE intervention
    ADD COLUMN os_user text,
    ADD COLUMN database_user text;
-- Not together with the column: rows that are there were not written by who migrates.
ALTER TABLE intervention ALTER COLUMN database_user SET DEFAULT session_user;
