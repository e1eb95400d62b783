-- Why: a patient could book without end, and so take everybody's time. What patients book themselves is counted now.
-- Locks: nothing that exists.
-- The version before books as it did: what patients book through it does not count.

-- An appointment that its patient booked, or made longer, without the desk: with how many such ones the patient then had ahead, how long
-- those last together, and how much of each the settings allowed. There is no foreign key: each row is written in the transaction that
-- writes the appointment's own.
CREATE TABLE own_booking (
    appointment_id uuid     NOT NULL,
    bookings       integer  NOT NULL,
    bookings_max   integer  NOT NULL,
    booked         interval NOT NULL,
    booked_max     interval NOT NULL,
    CONSTRAINT own_booking_once PRIMARY KEY (appointment_id),
    CONSTRAINT own_booking_few CHECK (bookings <= bookings_max),
    CONSTRAINT own_booking_short CHECK (booked <= booked_max)
);
