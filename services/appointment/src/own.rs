//! How much patients may book without the desk, and so take from others (docs/rules.md, A7).

use std::sync::Arc;

use hospital_types::PatientId;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, MutexGuard};

/// What the settings let a patient have ahead of those appointments that the patient booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub bookings_max: u16,
    pub hours_max: u16,
}

/// More than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooMuch {
    Bookings { max: u16 },
    Hours { max: u16 },
}

impl TooMuch {
    pub const fn code(self) -> &'static str {
        match self {
            Self::Bookings { .. } => "too-many-bookings",
            Self::Hours { .. } => "too-many-hours",
        }
    }

    pub fn detail(self) -> String {
        let what = match self {
            Self::Bookings { max } => format!("{max} appointments"),
            Self::Hours { max } => format!("{max} hours of appointments"),
        };
        format!(
            "Patients may have {what} ahead that they booked themselves. Cancel one that is not \
             needed, or ask the desk."
        )
    }

    pub fn members(self) -> Map<String, Value> {
        let (Self::Bookings { max } | Self::Hours { max }) = self;
        Map::from_iter([("max".to_owned(), max.into())])
    }
}

/// Lets a patient's bookings in one after another: a crowd of them would wait for each other in the
/// database, and hold the connections that everybody else needs.
#[derive(Clone)]
pub struct Turns(Arc<[Mutex<()>]>);

/// With so many, hardly anybody waits for another patient's.
const TURNS: u64 = 1024;

impl Turns {
    #[expect(clippy::new_without_default, reason = "made once")]
    pub fn new() -> Self {
        Self((0..TURNS).map(|_| Mutex::new(())).collect())
    }

    /// Waits for this patient's turn, which lasts until what is given is dropped.
    pub async fn of(&self, patient: PatientId) -> MutexGuard<'_, ()> {
        let (_, random) = patient.uuid().as_u64_pair();
        let place = usize::try_from(random % TURNS).expect("a thousand fits");
        self.0[place].lock().await
    }
}
