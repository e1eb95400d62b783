//! Every SQL statement of the service.

mod read;
mod search;
mod write;

use hospital_contracts::patient::{Address, Gender, Identifier, PatientStatus};
use hospital_types::{DatePrecision, PartialDate, Sensitive};
use jiff::civil::Date;
use tokio_postgres::{Row, types::Json};

pub(crate) use self::{
    read::{alike, exists, find, is_called, next_temporary, owner_of, standings},
    search::{Search, search},
    write::{
        fold_some, for_update, insert, insert_history, replace_identifiers, replace_names,
        update_demographics, update_version,
    },
};
use crate::patient::{Birth, Demographics, Patient};

/// The columns of a patient, for `FROM patient p`. Identifiers are ordered as Rust orders them.
macro_rules! select_patient {
    ($rest:literal $(, $more:literal)*) => {
        concat!(
            "SELECT p.id, p.version, p.status, p.given_name, p.family_name, p.temporary_name, p.birth_date, p.birth_precision,
                    p.birth_estimated, p.gender, p.phone, p.email, p.language, p.address, p.created_at, p.updated_at,
                    coalesce((SELECT jsonb_agg(jsonb_build_object('system', i.system, 'value', i.value)
                                               ORDER BY i.system COLLATE \"C\", i.value COLLATE \"C\")
                              FROM patient_identifier i WHERE i.patient_id = p.id), '[]') AS identifiers
             FROM patient p ",
            $rest
            $(, $more)*
        )
    };
}
use select_patient;

/// A birth date as it is stored: the first day that it may be, and how much of it is known.
struct BirthColumns {
    date: Date,
    precision: &'static str,
    estimated: bool,
}

impl BirthColumns {
    fn of(d: &Demographics) -> Self {
        match &d.birth {
            Some(birth) => {
                let date = *birth.date.expose();
                let (precision, estimated) = (date.precision().as_str(), birth.estimated);
                Self { date: date.first(), precision, estimated }
            }
            None => Self { date: Date::constant(1, 1, 1), precision: "none", estimated: false },
        }
    }

    fn read(row: &Row) -> Option<Birth> {
        let date: Date = row.get("birth_date");
        let precision = DatePrecision::parse(row.get("birth_precision"))?;
        let date = Sensitive::new(PartialDate::of(date, precision));
        Some(Birth { date, estimated: row.get("birth_estimated") })
    }
}

/// A birth date to look for: for each precision that may be stored, between which first days. Who
/// may be born then is found, whether more or less is known of them than is asked.
#[derive(Default)]
struct Born {
    precisions: Vec<&'static str>,
    low: Vec<Date>,
    high: Vec<Date>,
}

impl Born {
    fn on(date: Option<PartialDate>) -> Self {
        let Some(date) = date else { return Self::default() };
        let low = |precision| PartialDate::of(date.first(), precision).first();
        Self {
            precisions: DatePrecision::ALL.map(DatePrecision::as_str).to_vec(),
            low: DatePrecision::ALL.map(low).to_vec(),
            high: vec![date.last(); 3],
        }
    }
}

/// Identifiers as two arrays, for `unnest`.
fn columns(identifiers: &[Identifier]) -> (Vec<String>, Vec<String>) {
    identifiers.iter().map(|i| (i.system.clone(), i.value.clone())).unzip()
}

/// A name that there is not is an empty text: the version before reads a text.
fn name(row: &Row, column: &str) -> Option<Sensitive<String>> {
    let name: String = row.get(column);
    (!name.is_empty()).then(|| Sensitive::new(name))
}

fn patient(row: &Row) -> Patient {
    let Json(identifiers): Json<Vec<Identifier>> = row.get("identifiers");
    let text = |name: &str| row.get::<_, Option<String>>(name).map(Sensitive::new);
    Patient {
        id: row.get("id"),
        version: row.get("version"),
        status: status(row.get("status")),
        demographics: Demographics {
            given_name: name(row, "given_name"),
            family_name: name(row, "family_name"),
            temporary_name: text("temporary_name"),
            birth: BirthColumns::read(row),
            gender: Gender::parse(row.get("gender")).expect("patient_gender allows no other"),
            phone: text("phone"),
            email: text("email"),
            language: row.get("language"),
            address: row
                .get::<_, Option<Json<Address>>>("address")
                .map(|Json(a)| Sensitive::new(a)),
            identifiers,
        },
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    }
}

fn status(text: &str) -> PatientStatus {
    PatientStatus::parse(text).expect("patient_status allows no other")
}
