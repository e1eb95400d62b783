//! The model of a bill: its lines, its amounts, and how it says no.

use hospital_contracts::billing::{BillFacts, BillStatus, BillView, LineView};
use hospital_types::{AppointmentId, BillId, Currency, Money, PatientId, Refusal, RefusalKind};
use jiff::Timestamp;

/// A line of a bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) code: String,
    pub(crate) description: String,
    pub(crate) quantity: i32,
    pub(crate) unit_price: Money,
    pub(crate) amount: Money,
}

impl Line {
    /// `None` when quantity times price does not fit.
    pub(crate) fn new(
        code: String,
        description: String,
        quantity: i32,
        unit_price: Money,
    ) -> Option<Self> {
        let amount = unit_price.checked_mul(quantity.into())?;
        Some(Self { code, description, quantity, unit_price, amount })
    }
}

/// What a bill's amounts come to with more lines, or `None` when it does not fit or the currencies differ.
pub(crate) fn total(so_far: Money, lines: &[Line]) -> Option<Money> {
    lines.iter().try_fold(so_far, |sum, line| sum.checked_add(line.amount))
}

/// A bill.
#[derive(Clone, Debug)]
pub(crate) struct Bill {
    pub(crate) id: BillId,
    pub(crate) version: i32,
    pub(crate) number: Option<String>,
    pub(crate) appointment: AppointmentId,
    pub(crate) patient: PatientId,
    pub(crate) status: BillStatus,
    pub(crate) lines: Vec<Line>,
    pub(crate) total: Money,
    pub(crate) paid: Money,
    pub(crate) reserved: Money,
    pub(crate) appointment_cancelled: bool,
    pub(crate) back_dated: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) issued_at: Option<Timestamp>,
}

impl Bill {
    pub(crate) const fn currency(&self) -> Currency {
        self.total.currency()
    }

    pub(crate) fn outstanding(&self) -> Money {
        if self.status == BillStatus::Cancelled || self.appointment_cancelled {
            return Money::zero(self.currency());
        }
        self.total
            .checked_sub(self.paid)
            .and_then(|rest| rest.checked_sub(self.reserved))
            .expect("bill_not_overpaid keeps both below the total")
    }

    pub(crate) fn facts(&self) -> BillFacts {
        BillFacts {
            bill_id: self.id,
            version: self.version,
            number: self.number.clone(),
            appointment_id: self.appointment,
            patient_id: self.patient,
            total: self.total,
            back_dated: self.back_dated,
        }
    }

    pub(crate) fn view(&self) -> BillView {
        BillView {
            id: self.id,
            version: self.version,
            number: self.number.clone(),
            appointment_id: self.appointment,
            patient_id: self.patient,
            status: self.status,
            lines: self.lines.iter().map(line_view).collect(),
            total: self.total,
            paid: self.paid,
            reserved: self.reserved,
            outstanding: self.outstanding(),
            refund_due: (self.appointment_cancelled && self.paid.is_positive())
                .then_some(self.paid),
            back_dated: self.back_dated,
            created_at: self.created_at,
            issued_at: self.issued_at,
        }
    }
}

fn line_view(line: &Line) -> LineView {
    LineView {
        code: line.code.clone(),
        description: line.description.clone(),
        quantity: line.quantity,
        unit_price: line.unit_price,
        amount: line.amount,
    }
}

/// How a change of a bill is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BillRefused {
    Unknown,
    Stale { version: i32 },
    NotDraft { status: BillStatus },
    Empty,
    CurrencyMismatch { currency: Currency },
    TooLarge,
}

impl Refusal for BillRefused {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::Unknown => RefusalKind::NotFound,
            Self::Stale { .. } => RefusalKind::Stale,
            Self::NotDraft { .. } | Self::Empty => RefusalKind::Conflict,
            Self::CurrencyMismatch { .. } | Self::TooLarge => RefusalKind::Invalid,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "not-found",
            Self::Stale { .. } => "version-stale",
            Self::NotDraft { .. } => "bill-not-draft",
            Self::Empty => "bill-empty",
            Self::CurrencyMismatch { .. } => "currency-mismatch",
            Self::TooLarge => "amount-invalid",
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Unknown => String::new(),
            Self::Stale { version } => {
                format!("It was changed meanwhile and is at version {version}: read it again.")
            }
            Self::NotDraft { status } => {
                format!("The bill is {} and can no longer be changed.", status.as_str())
            }
            Self::Empty => "The bill has no line: add what was done before issuing it.".to_owned(),
            Self::CurrencyMismatch { currency } => format!("This bill is in {currency}."),
            Self::TooLarge => {
                "The bill's total would be larger than the platform can keep.".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_total_is_the_exact_sum_of_its_lines(lines in prop::collection::vec((1..10_000_i32, 0..10_000_000_i64), 0..40)) {
            let made: Vec<Line> = lines
                .iter()
                .map(|(n, price)| Line::new("c".into(), "d".into(), *n, Money::from_minor(*price, Currency::USD)).unwrap())
                .collect();
            let exact: i128 = lines.iter().map(|(n, price)| i128::from(*n) * i128::from(*price)).sum();
            let sum = total(Money::zero(Currency::USD), &made);
            prop_assert_eq!(sum.map(|m| i128::from(m.minor())), Some(exact));
        }
    }

    #[test]
    fn what_does_not_fit_is_no_line() {
        assert!(
            Line::new(
                "c".into(),
                "d".into(),
                10_000,
                Money::from_minor(i64::MAX / 2, Currency::USD)
            )
            .is_none()
        );
    }
}
