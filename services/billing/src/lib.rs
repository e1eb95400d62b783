//! hospital-billing.
