//! The price list.

use hospital_contracts::billing::ServiceTypeView;
use hospital_types::Money;
use jiff::Timestamp;

/// A kind of service: with a price, or priced at the visit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceType {
    pub(crate) code: String,
    pub(crate) name: String,
    pub(crate) price: Option<Money>,
    pub(crate) version: i32,
    pub(crate) created_at: Timestamp,
}

impl ServiceType {
    pub(crate) fn view(&self) -> ServiceTypeView {
        ServiceTypeView {
            code: self.code.clone(),
            name: self.name.clone(),
            price: self.price,
            priced_at_visit: self.price.is_none(),
            version: self.version,
            created_at: self.created_at,
        }
    }
}

/// Whether a text can be a service type's code.
pub(crate) fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}
