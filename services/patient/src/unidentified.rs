//! What somebody is called until it is known who it is.
//!
//! The name is said on the telephone and written on a wristband, so it is made of plain words that
//! sound like no other here, calm and without a meaning for the person: something of wood, stone or
//! cloth, a place, and two digits.

const THINGS: [&str; 24] = [
    "Amber", "Bamboo", "Birch", "Cedar", "Copper", "Coral", "Cotton", "Crystal", "Emerald",
    "Granite", "Indigo", "Jasper", "Linen", "Maple", "Marble", "Olive", "Opal", "Pearl", "Quartz",
    "Ruby", "Sapphire", "Silver", "Velvet", "Walnut",
];

const PLACES: [&str; 24] = [
    "Avenue", "Bridge", "Canyon", "Castle", "Farm", "Forest", "Garden", "Glacier", "Harbor",
    "Highland", "Island", "Junction", "Lagoon", "Meadow", "Mountain", "Orchard", "Prairie",
    "River", "Square", "Summit", "Terrace", "Valley", "Village", "Woodland",
];

/// From 10 to 99: numbers that are said in one way.
const NUMBERS: u64 = 90;

/// How many names there are.
const NAMES: u64 = 24 * 24 * NUMBERS;

/// Has no divisor in common with the number of names, so that all of them come before one comes
/// again, and lets those of one night differ in every part.
const STRIDE: u64 = 31_397;

/// The name of the nth who is registered so.
pub(crate) fn temporary_name(nth: u64) -> String {
    let place = nth % NAMES * STRIDE % NAMES;
    let (words, number) = (place / NUMBERS, place % NUMBERS + 10);
    let word = |list: &[&'static str; 24], i: u64| {
        usize::try_from(i).ok().and_then(|i| list.get(i)).copied().unwrap_or_default()
    };
    format!("Unknown {} {} {number}", word(&THINGS, words / 24), word(&PLACES, words % 24))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_name_comes_again_before_all_have_come() {
        let all: BTreeSet<String> = (7..7 + NAMES).map(temporary_name).collect();
        assert_eq!(u64::try_from(all.len()), Ok(NAMES));
        assert!(all.iter().all(|name| name.split(' ').all(|word| word.len() > 1)));
        assert_eq!(temporary_name(3), temporary_name(3 + NAMES));
    }

    #[test]
    fn names_of_one_night_differ_in_every_part() {
        for nth in 0..1000 {
            let (a, b) = (temporary_name(nth), temporary_name(nth + 1));
            let same = a.split(' ').zip(b.split(' ')).filter(|(a, b)| a == b).count();
            assert_eq!(same, 1, "{a}, {b}");
        }
    }
}
