//! Runtime plumbing of the services, without a business noun in it.

pub mod bus;
pub mod outcome;
