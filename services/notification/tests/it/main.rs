//! The notification service by events and over HTTP, on a real database, with a mailbox or a scripted mail server.

#![cfg(test)]

mod contacts;
mod kinds;
mod names;
mod post;
mod reading;
mod rollout;
mod seen_elsewhere;
mod sending;
