//! A hospital's day: what its people want next. Pure: a seed and what is known give what is asked for.

use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    record::{Kind, Request},
    seed::Rng,
    world::{Known, World},
};

/// What somebody does next.
#[derive(Clone, Debug)]
pub enum Act {
    /// Requests that are sent at once, each so many times at once under its key.
    Ask(Vec<(Request, u32)>),
    /// Looks for the bill of an appointment.
    FindBill(Uuid),
}

/// One person's day.
pub struct Day {
    rng: Rng,
    caller: String,
    /// Before every key, so that keys of different rounds and people differ.
    prefix: String,
    asked: u32,
    /// The first day that can be booked.
    first: Timestamp,
    /// While the gateway is silent, cards are paid with tokens that get no answer.
    pub gateway_silent: bool,
}

/// What is charged for a visit, in cents: the price list of the simulation.
pub const PRICES: [(&str, i64); 3] =
    [("consultation", 12_000), ("x-ray", 8_050), ("blood-test", 995)];
/// How many of a hundred requests that need no key have none.
const KEYLESS: u64 = 30;
/// A word that is in every name and every address. It must be in no log.
pub const CANARY: &str = "Zyxcanary";

impl Day {
    pub fn new(seed: u64, person: u64, caller: &str, first: Timestamp) -> Self {
        Self {
            rng: Rng::of(seed, person + 1),
            caller: caller.to_owned(),
            prefix: format!("{seed}-{person}"),
            asked: 0,
            first,
            gateway_silent: false,
        }
    }

    /// What this person does next, as far as they know the world.
    pub fn next(&mut self, world: &World) -> Act {
        let Some(patient) = self.rng.pick(&world.patients).copied() else {
            return self.once(Self::register);
        };
        if self.gateway_silent && self.rng.percent(40) {
            return self.pay(world).unwrap_or_else(|| self.book(world, patient));
        }
        match self.rng.below(100) {
            0..8 => self.once(Self::register),
            8..12 => self.change(patient),
            12..40 => self.book(world, patient),
            40..44 => self.race(world),
            44..50 => self.reschedule(world).unwrap_or_else(|| self.book(world, patient)),
            50..57 => self.step(world, Kind::Cancel).unwrap_or_else(|| self.book(world, patient)),
            57..70 => self.advance(world).unwrap_or_else(|| self.book(world, patient)),
            70..73 => self.pay_at_once(world).unwrap_or_else(|| self.book(world, patient)),
            73..92 => self.pay(world).unwrap_or_else(|| self.book(world, patient)),
            _ => self.bad(world, patient),
        }
    }

    fn once(&mut self, make: impl FnOnce(&mut Self) -> Request) -> Act {
        Act::Ask(vec![(make(self), 1)])
    }

    fn request(&mut self, kind: Kind, path: String, body: Value, subject: Option<Uuid>) -> Request {
        self.asked += 1;
        let (caller, key) = (self.caller.clone(), self.key());
        // Payments need one; of the others, some people send none.
        let keyed = matches!(kind, Kind::PayCash | Kind::PayCard) || !self.rng.percent(KEYLESS);
        let answers = Vec::new();
        Request { kind, caller, key, path, body, subject, keyed, bad: false, answers }
    }

    /// The key of the request that was made last.
    fn key(&self) -> String {
        format!("{}-{}", self.prefix, self.asked)
    }

    fn register(&mut self) -> Request {
        let mut request = self.request(Kind::Register, "/patients".to_owned(), Value::Null, None);
        let key = request.key.clone();
        let (year, month, day) =
            (self.rng.between(1930, 2020), self.rng.between(1, 12), self.rng.between(1, 28));
        // Of some no more is known.
        let birth_date = match day {
            1 | 2 => format!("{year}"),
            3 | 4 => format!("{year}-{month:02}"),
            _ => format!("{year}-{month:02}-{day:02}"),
        };
        request.body = json!({
            "givenName": CANARY, "familyName": key, "gender": "other", "acceptDuplicate": true,
            "birthDate": birth_date, "birthDateEstimated": day % 2 == 1,
            "email": format!("{CANARY}.{key}@hospital.example"),
        });
        request
    }

    fn change(&mut self, patient: Uuid) -> Act {
        let language = if self.rng.percent(50) { "de" } else { "fr" };
        // A change of nothing would make no version.
        let name = format!("{CANARY} {}-{}", self.prefix, self.asked);
        let body = json!({ "language": language, "givenName": name });
        let path = format!("/patients/{patient}");
        self.once(|day| day.request(Kind::Change, path, body, Some(patient)))
    }

    /// Some half hour of the next 200 days: few enough that people get into each other's way.
    fn slot(&mut self) -> (Timestamp, Timestamp) {
        let half_hours = i64::try_from(self.rng.below(200 * 18)).unwrap_or(0);
        let minutes = (half_hours / 18) * 24 * 60 + (half_hours % 18) * 30;
        let start = self.first.checked_add(minutes.minutes()).unwrap_or(self.first);
        (start, start.checked_add(30.minutes()).unwrap_or(start))
    }

    fn booking(&mut self, world: &World, patient: Uuid, slot: (Timestamp, Timestamp)) -> Request {
        let practitioner = self.rng.pick(&world.practitioners).copied().unwrap_or_default();
        let service = self.rng.pick(&PRICES).map_or("consultation", |(code, _)| code);
        let mut request = self.request(Kind::Book, "/appointments".to_owned(), Value::Null, None);
        request.body = json!({
            "patientId": patient, "practitionerId": practitioner, "serviceType": service,
            "start": slot.0.to_string(), "end": slot.1.to_string(), "reason": request.key,
        });
        request
    }

    fn book(&mut self, world: &World, patient: Uuid) -> Act {
        let slot = self.slot();
        self.once(|day| day.booking(world, patient, slot))
    }

    /// Several want the same time of the same practitioner at once.
    fn race(&mut self, world: &World) -> Act {
        let slot = self.slot();
        let practitioner = self.rng.pick(&world.practitioners).copied();
        let mut all = Vec::new();
        for _ in 0..self.rng.between(2, 4) {
            let patient = self.rng.pick(&world.patients).copied().unwrap_or_default();
            let mut request = self.booking(world, patient, slot);
            request.body["practitionerId"] = json!(practitioner);
            all.push((request, 1));
        }
        Act::Ask(all)
    }

    fn appointment<'a>(&mut self, world: &'a World, is: &[&str]) -> Option<&'a Known> {
        // Some are tried, and then whatever was found last: refusals are part of the day.
        let mut found = None;
        for _ in 0..8 {
            found = self.rng.pick(&world.appointments);
            if found.is_some_and(|known| is.contains(&known.status.as_str())) {
                break;
            }
        }
        found
    }

    fn reschedule(&mut self, world: &World) -> Option<Act> {
        let id = self.appointment(world, &["booked"])?.id;
        let slot = self.slot();
        let body = json!({ "start": slot.0.to_string(), "end": slot.1.to_string() });
        let path = format!("/appointments/{id}/reschedule");
        Some(self.once(|day| day.request(Kind::Reschedule, path, body, Some(id))))
    }

    fn step(&mut self, world: &World, kind: Kind) -> Option<Act> {
        let (is, word): (&[&str], _) = match kind {
            Kind::Cancel => (&["booked", "arrived"], "cancel"),
            Kind::Arrive => (&["booked"], "arrive"),
            Kind::CheckIn => (&["arrived"], "check-in"),
            _ => (&["checked-in"], "complete"),
        };
        let id = self.appointment(world, is)?.id;
        let mut request =
            self.request(kind, format!("/appointments/{id}/{word}"), Value::Null, Some(id));
        if kind == Kind::Cancel {
            let by = if self.rng.percent(50) { "patient" } else { "hospital" };
            request.body = json!({ "reason": request.key, "by": by });
        }
        Some(Act::Ask(vec![(request, 1)]))
    }

    fn advance(&mut self, world: &World) -> Option<Act> {
        let kind = *self.rng.pick(&[Kind::Arrive, Kind::CheckIn, Kind::Complete])?;
        self.step(world, kind)
    }

    /// Pays some of a bill, or asks for it first.
    fn pay(&mut self, world: &World) -> Option<Act> {
        let known = self.appointment(world, &["booked", "arrived", "checked-in", "completed"])?;
        let Some((bill, total)) = known.bill else { return Some(Act::FindBill(known.id)) };
        let card = self.gateway_silent || self.rng.percent(40);
        // Mostly a part, now and then all, now and then more than there is.
        let amount = match self.rng.below(10) {
            0 => total + 1,
            1 => total,
            _ => total / i64::try_from(self.rng.between(3, 9)).unwrap_or(4),
        };
        let kind = if card { Kind::PayCard } else { Kind::PayCash };
        let mut request = self.request(kind, "/payments".to_owned(), Value::Null, Some(bill));
        request.body = payment(bill, amount);
        request.body["reference"] = json!(request.key);
        request.body["method"] = json!(if card { "card" } else { "cash" });
        if card {
            request.body["cardToken"] = json!(self.token());
        }
        // Impatient people press the button again: one key, several times at once.
        let times = if self.rng.percent(25) { 3 } else { 1 };
        Some(Act::Ask(vec![(request, times)]))
    }

    /// Several pay the same bill at once, each under a key of their own.
    fn pay_at_once(&mut self, world: &World) -> Option<Act> {
        let known = self.appointment(world, &["booked", "arrived", "checked-in", "completed"])?;
        let Some((bill, total)) = known.bill else { return Some(Act::FindBill(known.id)) };
        let mut all = Vec::new();
        for _ in 0..self.rng.between(2, 4) {
            let card = self.rng.percent(40);
            let kind = if card { Kind::PayCard } else { Kind::PayCash };
            let body = payment(bill, total / 7);
            let mut request = self.request(kind, "/payments".to_owned(), body, Some(bill));
            request.body["reference"] = json!(request.key);
            request.body["method"] = json!(if card { "card" } else { "cash" });
            if card {
                request.body["cardToken"] = json!("tok_ok");
            }
            all.push((request, 1));
        }
        Some(Act::Ask(all))
    }

    fn token(&mut self) -> &'static str {
        if self.gateway_silent {
            let charged = self.rng.percent(70);
            return if charged { "tok_timeout_charged" } else { "tok_timeout" };
        }
        match self.rng.below(20) {
            0..13 => "tok_ok",
            13..15 => "tok_declined",
            15..17 => "tok_insufficient",
            17 => "tok_timeout",
            _ => "tok_timeout_charged",
        }
    }

    /// What must be refused, and must leave nothing.
    fn bad(&mut self, world: &World, patient: Uuid) -> Act {
        let bill = world.appointments.iter().find_map(|known| known.bill);
        let slot = self.slot();
        let mut request = match (self.rng.below(8), bill) {
            (0, _) => {
                let mut request = self.register();
                request.body["birthDate"] = json!("2001-02-31");
                request
            }
            (1, Some((bill, _))) | (2, Some((bill, _))) => {
                let cash = json!("cash");
                let mut request =
                    self.request(Kind::PayCash, "/payments".to_owned(), Value::Null, Some(bill));
                let zero = self.rng.percent(50);
                request.body = payment(bill, if zero { 0 } else { 10_000_000 });
                request.body["method"] = cash;
                request.body["reference"] = json!(request.key);
                request
            }
            (n, _) => {
                let mut request = self.booking(world, patient, slot);
                match n {
                    3 => request.body["end"] = request.body["start"].clone(),
                    4 => request.body["patientId"] = json!(Uuid::nil()),
                    5 => request.body["practitionerId"] = json!(Uuid::nil()),
                    6 => request.body["status"] = json!("completed"),
                    _ => request.body["start"] = json!("2020-01-01T10:00:00Z"),
                }
                request
            }
        };
        request.bad = true;
        Act::Ask(vec![(request, 1)])
    }
}

fn payment(bill: Uuid, cents: i64) -> Value {
    let amount = format!("{}.{:02}", cents / 100, cents % 100);
    json!({ "billId": bill, "amount": { "amount": amount, "currency": "USD" } })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn world() -> World {
        let uuid = |n: u128| Uuid::from_u128(n);
        let statuses = ["booked", "arrived", "checked-in", "completed", "cancelled"];
        World {
            practitioners: (1..5).map(uuid).collect(),
            patients: (10..60).map(uuid).collect(),
            appointments: (100..200)
                .map(|n| Known {
                    id: uuid(n),
                    status: statuses[usize::try_from(n % 5).unwrap()].to_owned(),
                    bill: (n % 2 == 0).then(|| (uuid(n + 1000), 12_000)),
                })
                .collect(),
            ..World::default()
        }
    }

    fn day(seed: u64) -> Vec<Act> {
        let first = "2030-01-01T08:00:00Z".parse().unwrap();
        let (mut day, world) = (Day::new(seed, 3, "sim-3", first), world());
        (0..400).map(|_| day.next(&world)).collect()
    }

    #[test]
    fn a_seed_fixes_the_day() {
        assert_eq!(format!("{:?}", day(5)), format!("{:?}", day(5)));
        assert_ne!(format!("{:?}", day(5)), format!("{:?}", day(6)));
    }

    #[test]
    fn everything_happens_on_a_day_and_every_key_is_new() {
        let (mut kinds, mut keys) = (BTreeMap::new(), BTreeSet::new());
        let (mut bad, mut repeated, mut races, mut looks, mut keyless) = (0, 0, 0, 0, 0);
        for act in day(9) {
            let Act::Ask(requests) = act else {
                looks += 1;
                continue;
            };
            races += u32::from(requests.len() > 1);
            for (request, times) in requests {
                assert!(keys.insert(request.key.clone()), "{} twice", request.key);
                *kinds.entry(request.kind).or_insert(0) += 1;
                keyless += u32::from(!request.keyed);
                bad += u32::from(request.bad);
                repeated += u32::from(times > 1);
            }
        }
        assert_eq!(kinds.len(), 10, "{kinds:?}");
        assert!(bad > 10 && repeated > 5 && races > 5 && looks > 5 && keyless > 30);
    }
}
