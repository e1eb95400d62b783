//! hospital-patient.
