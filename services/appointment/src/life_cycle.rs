//! Which step may follow which (docs/rules.md, A1 to A3).

use hospital_contracts::appointment::AppointmentStatus;

use AppointmentStatus::{
    Arrived, Booked, Cancelled, CheckedIn, Completed, EnteredInError, Held, NoShow, Waitlisted,
};

/// What an appointment may become next, privileged steps included. Empty for a final status.
pub const fn allowed_after(status: AppointmentStatus) -> &'static [AppointmentStatus] {
    match status {
        Waitlisted => &[Held, Cancelled, EnteredInError],
        Held => &[Booked, Cancelled, EnteredInError],
        Booked => &[Arrived, CheckedIn, Cancelled, NoShow, EnteredInError],
        Arrived => &[CheckedIn, Cancelled, NoShow, EnteredInError],
        CheckedIn => &[Completed, Cancelled, EnteredInError],
        NoShow => &[Arrived, EnteredInError],
        Completed | Cancelled | EnteredInError => &[],
    }
}

/// Whether only an administrator may take this step.
pub const fn is_privileged(from: AppointmentStatus, to: AppointmentStatus) -> bool {
    matches!((from, to), (_, EnteredInError) | (NoShow, Arrived))
}

/// Whether the appointment can be moved to another time.
pub const fn can_be_moved(status: AppointmentStatus) -> bool {
    matches!(status, Held | Booked)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of allowed steps (docs/rules.md, A2), written once more as pairs.
    const ALLOWED: [(AppointmentStatus, AppointmentStatus); 20] = [
        (Waitlisted, Held),
        (Waitlisted, Cancelled),
        (Waitlisted, EnteredInError),
        (Held, Booked),
        (Held, Cancelled),
        (Held, EnteredInError),
        (Booked, Arrived),
        (Booked, CheckedIn),
        (Booked, Cancelled),
        (Booked, NoShow),
        (Booked, EnteredInError),
        (Arrived, CheckedIn),
        (Arrived, Cancelled),
        (Arrived, NoShow),
        (Arrived, EnteredInError),
        (CheckedIn, Completed),
        (CheckedIn, Cancelled),
        (CheckedIn, EnteredInError),
        (NoShow, Arrived),
        (NoShow, EnteredInError),
    ];

    #[test]
    fn every_pair_of_statuses_is_decided_as_written() {
        for from in AppointmentStatus::ALL {
            for to in AppointmentStatus::ALL {
                let allowed = ALLOWED.contains(&(from, to));
                assert_eq!(allowed_after(from).contains(&to), allowed, "{from:?} -> {to:?}");
            }
        }
    }

    #[test]
    fn only_undoing_a_no_show_and_entered_in_error_are_privileged() {
        for (from, to) in ALLOWED {
            let expected = to == EnteredInError || (from, to) == (NoShow, Arrived);
            assert_eq!(is_privileged(from, to), expected, "{from:?} -> {to:?}");
        }
    }

    #[test]
    fn only_held_and_booked_appointments_can_be_moved() {
        let movable: Vec<_> =
            AppointmentStatus::ALL.into_iter().filter(|status| can_be_moved(*status)).collect();
        assert_eq!(movable, [Held, Booked]);
    }
}
