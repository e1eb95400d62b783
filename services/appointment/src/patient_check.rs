//! Asks the patient service whether a patient can be booked.

/// What the patient service says of a patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Active,
    Inactive,
    Unknown,
}
