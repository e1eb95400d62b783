\set prac random(1,500)
\set slot random(1,80000000)
\set pat random(1,10000)
\set k random(1,9000000000000)
\set desk random(0,15)
WITH new AS MATERIALIZED (
    SELECT gen_random_uuid() AS id, gen_random_uuid() AS event_id, now() AS at, 'desk-' || :desk::text AS caller,
        'bench-' || :k::text || left(random()::text, 6) AS key,
        ('00000000-0000-4000-a000-' || lpad(:pat::text, 12, '0'))::uuid AS patient,
        ('00000000-0000-4000-9000-' || lpad(:prac::text, 12, '0'))::uuid AS practitioner,
        '2027-01-01'::timestamptz + :slot * interval '1 minute' AS starts_at,
        '2027-01-01'::timestamptz + :slot * interval '1 minute' + interval '1 minute' AS ends_at
), locked AS MATERIALIZED (
    SELECT count(pg_advisory_xact_lock(resource_on_day)) FROM (VALUES
        (:slot::integer / 1440 * 20000 + :prac::integer), (:slot::integer / 1440 * 20000 + 1000 + :pat::integer)) AS l (resource_on_day)
), claim AS (
    INSERT INTO appointment.idempotency (caller, route, key, fingerprint, claimed, status, headers, body)
    SELECT caller, 'POST /appointments', key, '\xabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcd', pg_try_advisory_xact_lock(:k),
        201, '{"content-type": "application/json", "location": "/appointments/00000000-0000-7000-8000-000000000000", "etag": "\"1\""}',
        decode(repeat('ab', 420), 'hex')
    FROM new
), booked AS (
    INSERT INTO appointment.appointment (id, version, patient_id, practitioner_id, starts_at, ends_at, status, service_type, reason,
                                         back_dated, created_at, updated_at)
    SELECT id, 1, patient, practitioner, starts_at, ends_at, 'booked', 'visit', NULL, false, at, at FROM new
), reserved AS (
    INSERT INTO appointment.reservation (appointment_id, resource_id, during)
    SELECT id, resource, tstzrange(starts_at, ends_at)
    FROM new, locked, LATERAL (VALUES (practitioner), (patient)) AS both_of (resource)
), step AS (
    INSERT INTO appointment.history (appointment_id, version, at, actor, from_status, to_status, starts_at, ends_at, reason)
    SELECT id, 1, at, caller, NULL, 'booked', starts_at, ends_at, NULL FROM new
), told AS (
    INSERT INTO appointment.outbox (event_id, topic, event_type, aggregate, version, subject, payload, traceparent, unit, actor)
    SELECT event_id, 'appointment.booked', 'hospital.appointment.booked.v1', id, 1, patient,
        '{"appointmentId": "00000000-0000-7000-8000-000000000000", "version": 1, "patientId": "00000000-0000-7000-8000-000000000000", "practitionerId": "00000000-0000-7000-8000-000000000000", "start": "2027-01-01T00:00:00Z", "end": "2027-01-01T00:01:00Z", "serviceType": "visit", "backDated": false}',
        '00-00000000000000000000000000000000-0000000000000000-01', 'appointment.book', caller
    FROM new
)
SELECT id FROM new;
