//! The price list (docs/rules.md, B2).

use hospital_contracts::billing::ServiceTypeView;
use hospital_kit::{cause::Cause, db::Tx, http::IfMatch, outcome::Outcome};
use hospital_types::{Money, Refusal, RefusalKind};
use jiff::Timestamp;

use crate::store;

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

/// How a change of the price list is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PriceRefused {
    /// Not the version that was seen; there may be none.
    Stale { version: Option<i32> },
}

impl Refusal for PriceRefused {
    fn kind(&self) -> RefusalKind {
        RefusalKind::Stale
    }

    fn code(&self) -> &'static str {
        "version-stale"
    }

    fn detail(&self) -> String {
        match self {
            Self::Stale { version: Some(version) } => {
                format!("It was changed meanwhile and is at version {version}: read it again.")
            }
            Self::Stale { version: None } => "There is no such entry yet.".to_owned(),
        }
    }
}

/// Sets what a kind of service is called and costs from now on; gives the entry with whether it is new.
pub(crate) async fn set_price(
    tx: &mut Tx<PriceRefused>,
    cause: &Cause,
    entry: &ServiceType,
    seen: IfMatch,
) -> Outcome<(ServiceType, bool), PriceRefused> {
    if let IfMatch(Some(seen)) = seen {
        let version = store::lock_service_type(tx, &entry.code).await?;
        if version != Some(seen) {
            return Err(PriceRefused::Stale { version }.into());
        }
    }
    store::put_service_type(tx, cause, entry).await
}
