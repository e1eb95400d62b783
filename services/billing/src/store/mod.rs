//! Every SQL statement of the service.

mod bills;
mod payments;
mod prices;
mod sandbox;

pub(crate) use bills::*;
pub(crate) use payments::*;
pub(crate) use prices::*;
pub(crate) use sandbox::*;

use hospital_types::{Currency, Money};
use tokio_postgres::Row;

fn money(row: &Row, minor: &str) -> Money {
    Money::from_minor(row.get(minor), currency(row))
}

fn currency(row: &Row) -> Currency {
    Currency::parse(row.get("currency")).expect("only currencies are written")
}
