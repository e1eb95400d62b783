//! What the executable promises without a platform running: isolation of the schemas, documents, words on bad use.

#![cfg(test)]

mod docs;
mod environment;
mod isolation;
mod jobs;
mod rights;
mod rotation;
mod run;
mod seen;
mod usage;

const HOSPITAL: &str = env!("CARGO_BIN_EXE_hospital");
