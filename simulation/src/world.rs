//! What the hospital's people know: what they were told by answers, which may be out of date.

use std::collections::HashMap;

use serde_json::Value;
use uuid::Uuid;

use crate::record::{Answer, Kind, Outcome, Request};

/// An appointment as somebody was last told of it.
#[derive(Clone, Debug)]
pub struct Known {
    pub id: Uuid,
    pub status: String,
    /// Its bill, once somebody has looked it up, and what it comes to in cents.
    pub bill: Option<(Uuid, i64)>,
}

#[derive(Clone, Debug, Default)]
pub struct World {
    pub practitioners: Vec<Uuid>,
    pub patients: Vec<Uuid>,
    pub appointments: Vec<Known>,
    pub(crate) places: HashMap<Uuid, usize>,
}

/// How many patients and appointments are remembered: people forget.
const REMEMBERED: usize = 400;

impl World {
    /// Learns from what became of a request.
    pub fn learn(&mut self, request: &Request) {
        let Outcome::Accepted(answer) = request.outcome() else { return };
        let body = answer.body();
        let Some(id) = body["id"].as_str().and_then(|id| id.parse::<Uuid>().ok()) else { return };
        match request.kind {
            Kind::Register => {
                if self.patients.len() >= REMEMBERED {
                    self.patients.remove(0);
                }
                self.patients.push(id);
            }
            Kind::Change | Kind::PayCash | Kind::PayCard => {}
            _ => self.told(id, body["status"].as_str().unwrap_or_default()),
        }
    }

    fn told(&mut self, id: Uuid, status: &str) {
        if let Some(known) =
            self.places.get(&id).and_then(|place| self.appointments.get_mut(*place))
        {
            status.clone_into(&mut known.status);
            return;
        }
        let place = if self.appointments.len() < REMEMBERED {
            self.appointments.push(Known { id, status: status.to_owned(), bill: None });
            self.appointments.len() - 1
        } else {
            // In place of some other, by its id: as good as any.
            let place = usize::try_from(id.as_u128() % REMEMBERED as u128).unwrap_or(0);
            self.places.remove(&self.appointments[place].id);
            self.appointments[place] = Known { id, status: status.to_owned(), bill: None };
            place
        };
        self.places.insert(id, place);
    }

    /// Learns of a bill from a list of them.
    pub fn learn_bill(&mut self, appointment: Uuid, answer: &Answer) {
        let body = answer.body();
        let bill = &body["items"][0];
        let Some(id) = bill["id"].as_str().and_then(|id| id.parse().ok()) else { return };
        let place = self.places.get(&appointment).copied();
        if let Some(known) = place.and_then(|place| self.appointments.get_mut(place)) {
            known.bill = Some((id, cents(&bill["total"])));
        }
    }
}

/// An amount of the wire, in cents.
pub fn cents(money: &Value) -> i64 {
    let text = money["amount"].as_str().unwrap_or("0");
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let number = |text: &str| text.parse::<i64>().unwrap_or(0);
    number(whole) * 100 + number(&format!("{part:0<2}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_become_cents() {
        for (text, cents_of_it) in [("12.30", 1230), ("0.05", 5), ("7", 700), ("1.5", 150)] {
            assert_eq!(cents(&json!({"amount": text})), cents_of_it, "{text}");
        }
    }
}
