//! The notification service: its API bodies. It publishes nothing.
