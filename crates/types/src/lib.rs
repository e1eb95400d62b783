//! Pure values of the platform: typed ids, money, instants, actors, text, refusals. No I/O and no runtime.

mod actor;
mod currency;
mod fault;
mod id;
mod instant;
mod money;
mod partial_date;
mod refusal;
mod sensitive;
mod text;

pub use actor::{Actor, Role, Roles, Scope};
pub use currency::{Currency, UnknownCurrency};
pub use fault::{Fault, Faults};
pub use id::{
    Appointment, AppointmentId, Bill, BillId, Event, EventId, Id, Kind, Notification,
    NotificationId, Patient, PatientId, Payment, PaymentId, Practitioner, PractitionerId,
};
pub use instant::{InstantError, parse_date, parse_instant};
pub use money::{AmountError, MINOR_MAX, Money, MoneyInput};
pub use partial_date::{DatePrecision, PartialDate, PartialDateError};
pub use refusal::{Refusal, RefusalKind};
pub use sensitive::Sensitive;
pub use text::{TextError, text};
