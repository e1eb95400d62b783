//! The patient service over HTTP, on a real database.

#![cfg(test)]

mod access;
mod bad_input;
mod changing;
mod desk;
mod duplicates;
mod many;
mod people;
mod registering;
mod repeating;
mod searching;
mod seen_elsewhere;
