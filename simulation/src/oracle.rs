//! Judges the platform by the simulation's own log (docs/rules.md, I2, I3, I9 and I20). Pure: the
//! log and what the database says give what is wrong.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    facts::{Appointment, Facts, Payment},
    record::{Answer, Kind, Outcome, Request},
    world::cents,
};

/// An invariant that does not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    pub invariant: String,
    pub what: String,
}

impl Violation {
    pub fn new(invariant: impl Into<String>, what: impl Into<String>) -> Self {
        Self { invariant: invariant.into(), what: what.into() }
    }
}

/// Everything that the log and the database disagree about.
pub fn judge(log: &[Request], facts: &Facts) -> Vec<Violation> {
    let mut judge = Judge { found: Vec::new(), explained: Explained::default() };
    for request in log {
        judge.answers(request);
        match request.kind {
            Kind::Register => judge.registration(request, facts),
            Kind::Book => judge.booking(request, facts),
            Kind::PayCash | Kind::PayCard => judge.payment(request, facts),
            Kind::Change
            | Kind::Reschedule
            | Kind::Cancel
            | Kind::Arrive
            | Kind::CheckIn
            | Kind::Complete => judge.explain_step(request),
        }
    }
    judge.steps(facts);
    judge.ghosts(log, facts);
    judge.found
}

/// What the log explains: for each thing, its versions, and whether more may have happened to it than was answered.
#[derive(Default)]
struct Explained<'a> {
    steps: HashMap<Uuid, Vec<(i64, &'a Request, &'a Answer)>>,
    open: HashMap<Uuid, i64>,
}

struct Judge<'a> {
    found: Vec<Violation>,
    explained: Explained<'a>,
}

impl<'a> Judge<'a> {
    fn say(&mut self, invariant: &str, request: &Request, what: &str) {
        let name = request.kind.name();
        self.found.push(Violation::new(invariant, format!("{name} {}: {what}", request.key)));
    }

    /// I9: all 2xx of one key are the same answer, and none of them is beside a refusal. I3: what is bad is not accepted.
    fn answers(&mut self, request: &Request) {
        let accepted: HashSet<(u16, &str)> = request
            .finals()
            .filter(|answer| answer.is_success())
            .map(|answer| (answer.status, answer.text.as_str()))
            .collect();
        if accepted.len() > 1 {
            self.say("I9", request, &format!("its successes differ: {accepted:?}"));
        }
        if let Some(refused) = request.finals().find(|answer| !answer.is_success())
            && !accepted.is_empty()
        {
            let said = format!("accepted and refused ({} {})", refused.status, refused.code());
            self.say("I20", request, &said);
        }
        if request.bad && !accepted.is_empty() {
            self.say("I3", request, "it should have been refused");
        }
    }

    fn registration(&mut self, request: &'a Request, facts: &Facts) {
        let rows = facts.patients.get(&request.key).map_or(&[][..], Vec::as_slice);
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        if let Some(answer) = self.rows(request, &ids) {
            self.explain(request, answer);
        } else if let (Outcome::Open, Some(id)) = (request.outcome(), ids.first()) {
            // Nobody was told, and it happened: it explains the first step of what is there.
            *self.explained.open.entry(*id).or_default() += 1;
        }
    }

    /// What a key has left is one row if it was accepted, and nothing if it was refused. Gives the answer that accepted it.
    fn rows(&mut self, request: &'a Request, ids: &[Uuid]) -> Option<&'a Answer> {
        if ids.len() > 1 {
            self.say("I9", request, &format!("it was done {} times: {ids:?}", ids.len()));
        }
        match request.outcome() {
            Outcome::Accepted(answer) => {
                let told = id_of(&answer.body());
                if told.is_none_or(|told| !ids.contains(&told)) {
                    self.say("I2", request, &format!("{told:?} was acknowledged and is not there"));
                }
                Some(answer)
            }
            Outcome::Refused(answer) if !ids.is_empty() => {
                let said = format!("refused with {} {}, and {ids:?}", answer.status, answer.code());
                self.say("I3", request, &said);
                None
            }
            Outcome::Refused(_) | Outcome::Open => None,
        }
    }

    fn booking(&mut self, request: &'a Request, facts: &Facts) {
        let rows = facts.appointments.get(&request.key).map_or(&[][..], Vec::as_slice);
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let Some(answer) = self.rows(request, &ids) else {
            if let (Outcome::Open, Some(id)) = (request.outcome(), ids.first()) {
                *self.explained.open.entry(*id).or_default() += 1;
            }
            return;
        };
        self.explain(request, answer);
        let Some(row) = rows.first() else { return };
        let asked = |member: &str| request.body[member].as_str().unwrap_or_default();
        let same = row.patient.to_string() == asked("patientId")
            && row.practitioner.to_string() == asked("practitionerId")
            && row.service_type == asked("serviceType")
            && row.steps.first().is_some_and(|step| step.start == instant(&request.body["start"]));
        if !same {
            self.say("I2", request, &format!("{} is not what was asked for", row.id));
        }
    }

    fn payment(&mut self, request: &'a Request, facts: &Facts) {
        let key = (request.caller.clone(), request.key.clone());
        let rows = facts.payments.get(&key).map_or(&[][..], Vec::as_slice);
        if rows.len() > 1 {
            self.say("I9", request, &format!("it was paid {} times", rows.len()));
        }
        match (request.outcome(), rows.first()) {
            (Outcome::Accepted(answer), Some(row)) => self.paid(request, answer, row),
            (Outcome::Accepted(answer), None) => {
                let told = id_of(&answer.body());
                self.say(
                    "I2",
                    request,
                    &format!("payment {told:?} was acknowledged and is not there"),
                );
            }
            // A card that was declined leaves a payment that failed.
            (Outcome::Refused(answer), row) if answer.status == 402 => {
                if row.is_none_or(|row| row.status != "failed") {
                    self.say("I20", request, &format!("declined, and its payment is {row:?}"));
                }
            }
            (Outcome::Refused(answer), Some(row)) => {
                let said =
                    format!("refused with {} {}, and {}", answer.status, answer.code(), row.id);
                self.say("I3", request, &said);
            }
            (Outcome::Refused(_) | Outcome::Open, _) => {}
        }
    }

    fn paid(&mut self, request: &Request, answer: &Answer, row: &Payment) {
        let body = answer.body();
        let agrees = id_of(&body) == Some(row.id)
            && request.subject == Some(row.bill)
            && cents(&request.body["amount"]) == row.amount;
        if !agrees {
            self.say("I2", request, &format!("payment {} is not what was asked for", row.id));
        }
        if answer.status == 201 && row.status != "succeeded" {
            self.say("I20", request, &format!("answered 201, and {} is {}", row.id, row.status));
        }
    }

    fn explain_step(&mut self, request: &'a Request) {
        match request.outcome() {
            Outcome::Accepted(answer) => self.explain(request, answer),
            Outcome::Open => {
                if let Some(subject) = request.subject {
                    *self.explained.open.entry(subject).or_default() += 1;
                }
            }
            Outcome::Refused(_) => {}
        }
    }

    fn explain(&mut self, request: &'a Request, answer: &'a Answer) {
        let body = answer.body();
        if let (Some(id), Some(version)) = (id_of(&body), body["version"].as_i64()) {
            self.explained.steps.entry(id).or_default().push((version, request, answer));
        }
    }

    /// Each acknowledged step is in the history at its version, and each step of the history was acknowledged.
    fn steps(&mut self, facts: &Facts) {
        let explained = std::mem::take(&mut self.explained);
        for row in facts.patients.values().flatten() {
            let told = explained.steps.get(&row.id).map_or(0, Vec::len);
            self.count("patient", row.id, row.steps, told, &explained);
        }
        for row in facts.appointments.values().flatten() {
            let told = explained.steps.get(&row.id).map_or(&[][..], Vec::as_slice);
            let steps = i64::try_from(row.steps.len()).unwrap_or(i64::MAX);
            self.count("appointment", row.id, steps, told.len(), &explained);
            for (version, request, answer) in told {
                self.step(row, *version, request, answer);
            }
        }
        for steps in explained.steps.values() {
            let mut versions: BTreeMap<i64, &Request> = BTreeMap::new();
            for (version, request, _) in steps {
                if let Some(other) = versions.insert(*version, request) {
                    let said = format!("it and {} are both version {version}", other.key);
                    self.say("I2", request, &said);
                }
            }
        }
    }

    fn count(&mut self, what: &str, id: Uuid, steps: i64, told: usize, explained: &Explained<'_>) {
        let told = i64::try_from(told).unwrap_or(i64::MAX);
        let open = explained.open.get(&id).copied().unwrap_or(0);
        if steps < told {
            let said = format!("{what} {id} has {steps} steps, and {told} were acknowledged");
            self.found.push(Violation::new("I2", said));
        }
        if steps > told + open {
            let said = format!(
                "{what} {id} has {steps} steps, {told} were acknowledged and {open} may have been done"
            );
            self.found.push(Violation::new("I3", said));
        }
    }

    fn step(&mut self, row: &Appointment, version: i64, request: &Request, answer: &Answer) {
        let body = answer.body();
        let found = row.steps.iter().find(|step| i64::from(step.version) == version);
        let agrees = found.is_some_and(|step| {
            request.kind.leads_to().is_some_and(|status| step.status == status)
                && step.actor == request.caller
                && step.start == instant(&body["start"])
                && step.end == instant(&body["end"])
                && (request.kind != Kind::Cancel
                    || step.reason.as_deref() == request.body["reason"].as_str())
        });
        if !agrees {
            let said =
                format!("acknowledged as version {version} of {}, which is {found:?}", row.id);
            self.say("I2", request, &said);
        }
    }

    /// Whatever is there was asked for.
    fn ghosts(&mut self, log: &[Request], facts: &Facts) {
        let keys: HashSet<&str> = log.iter().map(|request| request.key.as_str()).collect();
        let strangers = facts
            .patients
            .keys()
            .chain(facts.appointments.keys())
            .chain(facts.payments.keys().map(|(_, key)| key))
            .filter(|key| !keys.contains(key.as_str()));
        for key in strangers {
            self.found
                .push(Violation::new("I3", format!("{key:?} is there, and nobody asked for it")));
        }
    }
}

fn id_of(body: &Value) -> Option<Uuid> {
    body["id"].as_str()?.parse().ok()
}

fn instant(text: &Value) -> Timestamp {
    text.as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
