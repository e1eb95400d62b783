//! hospital-notification.
