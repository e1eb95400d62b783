-- Empties the tables that same-rows-booking.sql writes, which are the appointment service's own by its own migrations, and fills in whom
-- it books.
TRUNCATE appointment.idempotency, appointment.appointment, appointment.appointment_identifier, appointment.reservation,
    appointment.history, appointment.outbox, appointment.practitioner, appointment.practitioner_identifier;
INSERT INTO appointment.practitioner (id, name, specialty, created_at, updated_at)
SELECT ('00000000-0000-4000-9000-' || lpad(n::text, 12, '0'))::uuid, 'Dr. Bench ' || n, 'General practice', now(), now()
FROM generate_series(1, 500) n;
VACUUM ANALYZE appointment.practitioner;
