//! Which encounters must wait for which: two that want the same time of one person are decided in order, all others at once.

use std::collections::HashMap;

use super::synthea::Encounter;

/// For each encounter, the earlier ones that it must wait for: those that overlap it and share its patient or its practitioner. So the
/// result does not depend on how many are under way at once.
pub(crate) fn dependencies(encounters: &[Encounter]) -> Vec<Vec<usize>> {
    let mut by_person: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut all = Vec::with_capacity(encounters.len());
    for (i, encounter) in encounters.iter().enumerate() {
        let mut earlier = Vec::new();
        for person in [encounter.patient.as_str(), encounter.practitioner.as_str()] {
            let booked = by_person.entry(person).or_default();
            // Encounters come in order of their start, so one that begins later than another overlaps it while that has not ended.
            earlier
                .extend(booked.iter().copied().filter(|j| encounters[*j].stop > encounter.start));
            booked.push(i);
        }
        earlier.sort_unstable();
        earlier.dedup();
        all.push(earlier);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::synthea::Place;

    fn encounter(patient: &str, practitioner: &str, start: &str, stop: &str) -> Encounter {
        Encounter {
            place: Place { file: "encounters.csv", line: 0, id: String::new() },
            patient: patient.to_owned(),
            practitioner: practitioner.to_owned(),
            start: start.to_owned(),
            stop: stop.to_owned(),
            service_type: String::new(),
            lines: Vec::new(),
            payments: Vec::new(),
        }
    }

    #[test]
    fn only_overlapping_encounters_of_one_person_wait() {
        let encounters = [
            encounter("p1", "d1", "10:00", "11:00"),
            encounter("p2", "d2", "10:10", "10:20"),
            encounter("p2", "d1", "10:30", "10:40"),
            encounter("p1", "d2", "10:30", "10:40"),
            encounter("p3", "d1", "11:00", "11:10"),
        ];
        let waits = dependencies(&encounters);
        assert_eq!(waits, [vec![], vec![], vec![0], vec![0], vec![]]);
    }
}
