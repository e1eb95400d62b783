-- Why: messages that leave together are marked together. Marking each by itself wrote it again, with all of its indexes, though nearly all of
-- them are sent at the first attempt.
-- Locks: adding the column and exchanging the index stop writers for as long as building it takes; it holds what is not sent yet.
-- The version before works on: what it writes belongs to no dispatch, and it leaves alone what does. Looking for what is due it reads the
-- whole table, so it should not be left running.

-- Messages that one process took along when it wrote them.
CREATE TABLE dispatch (
    id         uuid        CONSTRAINT dispatch_id PRIMARY KEY,
    -- Which, until they are sent.
    deliveries uuid[]      NOT NULL,
    -- When the process has had its time: from then on anybody may send them, each by itself.
    lapses_at  timestamptz NOT NULL,
    sent_at    timestamptz
);
CREATE INDEX dispatch_open ON dispatch (lapses_at) WHERE sent_at IS NULL;

-- While it belongs to a dispatch, a message is as its dispatch is; its own state is that of a first attempt under way. One that was not sent
-- with the others leaves, and has a state of its own.
ALTER TABLE delivery ADD COLUMN dispatch uuid;
DROP INDEX delivery_due;
CREATE INDEX delivery_due ON delivery (next_attempt_at) WHERE status = 'pending' AND dispatch IS NULL;

-- Messages as they stand.
CREATE VIEW message AS
SELECT d.id, d.version + (p.sent_at IS NOT NULL)::integer AS version, d.event_id, d.kind, d.channel, d.recipient, d.patient_id,
       d.appointment_id, d.bill_id, d.subject, d.body, CASE WHEN p.sent_at IS NULL THEN d.status ELSE 'sent' END AS status, d.attempts,
       d.error, d.created_at, coalesce(p.sent_at, d.sent_at) AS sent_at
FROM delivery d LEFT JOIN dispatch p ON p.id = d.dispatch;
