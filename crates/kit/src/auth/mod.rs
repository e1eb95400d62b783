//! Who asks: tokens signed by keys that the platform trusts.

mod authority;
mod keys;
mod signing;

pub use authority::{Authority, TokenRejected};
pub use signing::{Claims, SigningKey, TokenSource};
