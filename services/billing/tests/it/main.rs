//! The billing service over HTTP and events, on a real database.

#![cfg(test)]

mod access;
mod bad_events;
mod bad_input;
mod bills;
mod cards;
mod closing;
mod conflicts;
mod edges;
mod payments;
mod prices;
mod races;
mod reading;
mod rollout;
mod seen_elsewhere;
mod till;
mod traces;
