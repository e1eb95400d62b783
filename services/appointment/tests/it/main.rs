//! The appointment service over HTTP, on a real database.

#![cfg(test)]

mod access;
mod bad_input;
mod booking;
mod commits;
mod days;
mod desk;
mod document;
mod fake_patients;
mod flights;
mod own;
mod patient_check;
mod practitioners;
mod races;
mod reading;
mod reasons;
mod rollout;
mod seen_elsewhere;
mod steps;
mod traces;
mod years;
