-- Why: what takes place on a day is whatever overlaps it, and not only what starts on it. Few appointments last longer than four hours, so
-- whoever looks for a day's looks four hours back by start, and for the long ones here.
-- Locks: bookings and steps wait while the appointments are read once: some seconds for each million.
-- The version before works on.
CREATE INDEX appointment_long ON appointment USING gist (tstzrange(starts_at, ends_at)) WHERE ends_at - starts_at > interval '4 hours';
