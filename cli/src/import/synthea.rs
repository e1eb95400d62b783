//! Reads a Synthea CSV folder. Columns are found by name, so older and newer exports, which have some more or fewer, are read alike.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use anyhow::{Context, bail};
use csv::StringRecord;

/// What a folder holds, as far as the platform takes it in.
pub(crate) struct Folder {
    pub(crate) patients: Vec<Patient>,
    pub(crate) practitioners: Vec<Practitioner>,
    /// In order of (START, Id), the order in which they compete for time.
    pub(crate) encounters: Vec<Encounter>,
    /// What was read in another way than usual, for the report.
    pub(crate) notes: Vec<String>,
}

/// Where a row stands, for the report.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Place {
    pub(crate) file: &'static str,
    /// The line in the file, the header being line 1.
    pub(crate) line: u64,
    pub(crate) id: String,
}

pub(crate) struct Patient {
    pub(crate) place: Place,
    pub(crate) given_name: String,
    pub(crate) family_name: String,
    pub(crate) birth_date: String,
    pub(crate) gender: &'static str,
    pub(crate) address: serde_json::Map<String, serde_json::Value>,
}

pub(crate) struct Practitioner {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(crate) specialty: String,
}

pub(crate) struct Encounter {
    pub(crate) place: Place,
    pub(crate) patient: String,
    pub(crate) practitioner: String,
    pub(crate) start: String,
    pub(crate) stop: String,
    /// The encounter's class as a service type code.
    pub(crate) service_type: String,
    pub(crate) lines: Vec<Line>,
    /// In file order, zero amounts left out.
    pub(crate) payments: Vec<Payment>,
}

pub(crate) struct Line {
    pub(crate) code: String,
    pub(crate) description: String,
    pub(crate) amount: String,
}

pub(crate) struct Payment {
    pub(crate) place: Place,
    pub(crate) amount: String,
    pub(crate) method: Method,
}

/// How a payment was made, as the platform says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Cash,
    Cheque,
    Transfer,
    Card,
}

impl Method {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Cash => "cash",
            Self::Cheque => "cheque",
            Self::Transfer => "transfer",
            Self::Card => "card",
        }
    }

    /// Synthea's METHOD. A co-pay is what the patient hands over at the desk; what Synthea leaves open was settled between accounts.
    fn of(method: &str) -> Self {
        match method {
            "CASH" | "COPAY" => Self::Cash,
            "CHECK" => Self::Cheque,
            "CC" => Self::Card,
            _ => Self::Transfer,
        }
    }
}

impl Folder {
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut encounters = Table::open(folder, "encounters.csv")?
            .with_context(|| {
                format!("{} has no encounters.csv: is it a Synthea CSV folder?", folder.display())
            })?
            .rows(|row| Ok(encounter(row)))?;
        let transactions = Table::open(folder, "claims_transactions.csv")?;
        let has_transactions = transactions.is_some();
        let mut money: HashMap<String, Money> = HashMap::new();
        if let Some(table) = transactions {
            table.rows(|row| {
                let place = row.place("ID");
                let entry = money.entry(row.text("APPOINTMENTID")).or_default();
                match row.text("TYPE").as_str() {
                    "CHARGE" => entry.lines.push(charge(row)),
                    "PAYMENT" => entry.payments.push(Payment {
                        place,
                        amount: plain(&row.text("PAYMENTS")),
                        method: Method::of(&row.text("METHOD")),
                    }),
                    _ => {}
                }
                Ok(())
            })?;
        }
        for (encounter, fallback) in &mut encounters {
            let own = money.remove(&encounter.place.id).unwrap_or_default();
            encounter.lines = if own.lines.is_empty() { vec![fallback.line()] } else { own.lines };
            encounter.payments = if has_transactions {
                own.payments
            } else {
                vec![fallback.payment(&encounter.place)]
            };
            encounter.payments.retain(|payment| !is_zero(&payment.amount));
        }
        let mut notes = Vec::new();
        let practitioners = match Table::open(folder, "providers.csv")? {
            Some(table) => table.rows(|row| Ok(practitioner(row)))?,
            None => {
                let made = practitioners_of(&mut encounters);
                notes.push(format!(
                    "There is no providers.csv: {} practitioners were made from the encounters. \
                     They are called after their ids and have no specialty.",
                    made.len()
                ));
                made
            }
        };
        let mut encounters: Vec<Encounter> = encounters.into_iter().map(|(e, _)| e).collect();
        encounters.sort_by(|a, b| (&a.start, &a.place.id).cmp(&(&b.start, &b.place.id)));
        let patients = Table::open(folder, "patients.csv")?
            .with_context(|| format!("{} has no patients.csv", folder.display()))?;
        let patients = patients.rows(|row| Ok(patient(row)))?;
        Ok(Self { patients, practitioners, encounters, notes })
    }
}

/// Those who had the encounters: folders are published without the file of practitioners, or with
/// encounters that name only the organization.
fn practitioners_of(encounters: &mut [(Encounter, Fallback)]) -> Vec<Practitioner> {
    let mut seen = HashSet::new();
    let mut made = Vec::new();
    for (encounter, fallback) in encounters {
        if encounter.practitioner.is_empty() {
            encounter.practitioner = std::mem::take(&mut fallback.organization);
        }
        let id = &encounter.practitioner;
        if id.is_empty() || !seen.insert(id.clone()) {
            continue;
        }
        let short: String = id.chars().take(8).collect();
        made.push(Practitioner {
            place: Place { id: id.clone(), ..encounter.place.clone() },
            name: format!("Practitioner {short}"),
            specialty: String::new(),
        });
    }
    made
}

#[derive(Default)]
struct Money {
    lines: Vec<Line>,
    payments: Vec<Payment>,
}

/// What an encounter itself says of money, for folders whose transactions say nothing, and who
/// stands for a practitioner that it does not name.
struct Fallback {
    organization: String,
    code: String,
    description: String,
    total: String,
    covered: String,
}

impl Fallback {
    fn line(&self) -> Line {
        Line {
            code: self.code.clone(),
            description: self.description.clone(),
            amount: self.total.clone(),
        }
    }

    fn payment(&self, place: &Place) -> Payment {
        Payment { place: place.clone(), amount: self.covered.clone(), method: Method::Transfer }
    }
}

fn patient(row: &Row<'_>) -> Patient {
    let mut address = serde_json::Map::new();
    for (member, column) in
        [("line", "ADDRESS"), ("city", "CITY"), ("state", "STATE"), ("postalCode", "ZIP")]
    {
        let value = row.text(column);
        if !value.is_empty() {
            address.insert(member.to_owned(), value.into());
        }
    }
    Patient {
        place: row.place("Id"),
        given_name: row.text("FIRST"),
        family_name: row.text("LAST"),
        birth_date: row.text("BIRTHDATE"),
        gender: match row.text("GENDER").as_str() {
            "M" => "male",
            "F" => "female",
            "" => "unknown",
            _ => "other",
        },
        address,
    }
}

fn practitioner(row: &Row<'_>) -> Practitioner {
    Practitioner {
        place: row.place("Id"),
        name: row.text("NAME"),
        specialty: row.first(&["SPECIALITY", "SPECIALTY"]),
    }
}

fn encounter(row: &Row<'_>) -> (Encounter, Fallback) {
    let class = row.text("ENCOUNTERCLASS").to_ascii_lowercase();
    let service_type: String =
        class.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(64).collect();
    let encounter = Encounter {
        place: row.place("Id"),
        patient: row.text("PATIENT"),
        practitioner: row.text("PROVIDER"),
        start: row.text("START"),
        stop: row.text("STOP"),
        service_type: if service_type.is_empty() { "encounter".to_owned() } else { service_type },
        lines: Vec::new(),
        payments: Vec::new(),
    };
    let fallback = Fallback {
        organization: row.text("ORGANIZATION"),
        code: non_empty(row.text("CODE"), "encounter"),
        description: non_empty(row.text("DESCRIPTION"), "Encounter"),
        total: plain(&row.text("TOTAL_CLAIM_COST")),
        covered: plain(&row.text("PAYER_COVERAGE")),
    };
    (encounter, fallback)
}

fn charge(row: &Row<'_>) -> Line {
    let code = non_empty(row.text("PROCEDURECODE"), "charge");
    Line {
        description: non_empty(row.text("NOTES"), &code),
        amount: plain(&row.text("AMOUNT")),
        code,
    }
}

fn non_empty(text: String, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text }
}

/// An amount as Synthea writes it, as the platform takes it: nothing is zero, and zeros below a cent say nothing.
fn plain(amount: &str) -> String {
    let Some((whole, fraction)) = amount.split_once('.') else {
        return if amount.is_empty() { "0".to_owned() } else { amount.to_owned() };
    };
    let fraction = fraction.trim_end_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

fn is_zero(amount: &str) -> bool {
    amount.bytes().all(|b| matches!(b, b'0' | b'.' | b'-'))
}

/// A CSV file whose columns are known by name.
struct Table {
    file: &'static str,
    columns: HashMap<String, usize>,
    reader: csv::Reader<std::fs::File>,
}

impl Table {
    fn open(folder: &Path, file: &'static str) -> anyhow::Result<Option<Self>> {
        let path = folder.join(file);
        if !path.exists() {
            return Ok(None);
        }
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .from_path(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let headers =
            reader.headers().with_context(|| format!("cannot read the header of {file}"))?;
        let columns = headers
            .iter()
            .enumerate()
            .map(|(i, name)| (name.trim_start_matches('\u{feff}').trim().to_ascii_uppercase(), i))
            .collect();
        Ok(Some(Self { file, columns, reader }))
    }

    fn rows<T>(
        mut self,
        mut each: impl FnMut(&Row<'_>) -> anyhow::Result<T>,
    ) -> anyhow::Result<Vec<T>> {
        if !self.columns.contains_key("ID") {
            bail!("{} has no column Id: is it a Synthea file?", self.file);
        }
        let mut all = Vec::new();
        for record in self.reader.records() {
            let record = record.with_context(|| format!("{} is not well-formed CSV", self.file))?;
            let line = record.position().map_or(0, csv::Position::line);
            all.push(each(&Row {
                file: self.file,
                columns: &self.columns,
                record: &record,
                line,
            })?);
        }
        Ok(all)
    }
}

struct Row<'a> {
    file: &'static str,
    columns: &'a HashMap<String, usize>,
    record: &'a StringRecord,
    line: u64,
}

impl Row<'_> {
    /// A column's text, empty when this folder's Synthea has no such column.
    fn text(&self, column: &str) -> String {
        self.columns
            .get(&column.to_ascii_uppercase())
            .and_then(|i| self.record.get(*i))
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    fn first(&self, columns: &[&str]) -> String {
        columns.iter().map(|c| self.text(c)).find(|t| !t.is_empty()).unwrap_or_default()
    }

    fn place(&self, id: &str) -> Place {
        Place { file: self.file, line: self.line, id: self.text(id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_lose_only_what_says_nothing() {
        for (given, plain_one) in [
            ("77.49", "77.49"),
            ("77.4900", "77.49"),
            ("77.0", "77"),
            ("", "0"),
            (".5", "0.5"),
            ("1.005", "1.005"),
        ] {
            assert_eq!(plain(given), plain_one, "{given}");
        }
        assert!(is_zero("0.00") && is_zero("0") && !is_zero("0.01"));
    }

    #[test]
    fn without_a_file_of_practitioners_they_are_made_from_the_encounters() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("patients.csv", "Id,FIRST,LAST,BIRTHDATE,GENDER\np1,Ann,Lee,1990-01-02,F\n");
        write(
            "encounters.csv",
            "Id,START,STOP,PATIENT,ORGANIZATION,PROVIDER\n\
             e2,2020-01-02T00:00:00Z,2020-01-02T00:15:00Z,p1,o1,2d85c411-b7bb-3133\n\
             e1,2020-01-01T00:00:00Z,2020-01-01T00:15:00Z,p1,o2,\n\
             e3,2020-01-03T00:00:00Z,2020-01-03T00:15:00Z,p1,o1,2d85c411-b7bb-3133\n\
             e4,2020-01-04T00:00:00Z,2020-01-04T00:15:00Z,p1,,\n",
        );
        let read = Folder::read(folder.path()).unwrap();
        let made: Vec<_> =
            read.practitioners.iter().map(|p| (p.place.id.as_str(), p.name.as_str())).collect();
        assert_eq!(
            made,
            [("2d85c411-b7bb-3133", "Practitioner 2d85c411"), ("o2", "Practitioner o2")]
        );
        assert_eq!(
            (read.practitioners[0].place.file, read.practitioners[0].place.line),
            ("encounters.csv", 2)
        );
        let of: Vec<_> = read.encounters.iter().map(|e| e.practitioner.as_str()).collect();
        assert_eq!(of, ["o2", "2d85c411-b7bb-3133", "2d85c411-b7bb-3133", ""]);
        assert!(read.notes[0].contains("no providers.csv: 2 practitioners"), "{:?}", read.notes);
    }

    #[test]
    fn an_unknown_column_is_passed_over_and_a_missing_one_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "patients.csv",
            "Id,FIRST,LAST,MIDDLE,BIRTHDATE,GENDER,FIPS\np1,Ann,Lee,Q,1990-01-02,F,25017\n",
        );
        write("providers.csv", "Id,NAME\nd1,Dr Who\n");
        write(
            "encounters.csv",
            "Id,START,STOP,PATIENT,PROVIDER,ENCOUNTERCLASS,CODE,TOTAL_CLAIM_COST,PAYER_COVERAGE\n\
             e2,2020-01-02T00:00:00Z,2020-01-02T00:15:00Z,p1,d1,Urgent Care,1,10.00,4.00\n\
             e1,2020-01-01T00:00:00Z,2020-01-01T00:15:00Z,p1,d1,wellness,1,5.00,0.00\n",
        );
        let read = Folder::read(folder.path()).unwrap();
        assert_eq!(read.patients[0].gender, "female");
        assert_eq!((read.practitioners[0].specialty.as_str(), read.notes.len()), ("", 0));
        let ids: Vec<_> = read.encounters.iter().map(|e| e.place.id.as_str()).collect();
        assert_eq!(ids, ["e1", "e2"]);
        assert_eq!(read.encounters[1].service_type, "urgent-care");
        assert_eq!(read.encounters[1].lines[0].amount, "10");
        assert_eq!(read.encounters[1].payments[0].amount, "4");
        assert!(read.encounters[0].payments.is_empty(), "a zero payment is skipped");
    }
}
