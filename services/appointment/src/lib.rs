//! hospital-appointment.
