//! Seeds that once found something, kept.

#![cfg(test)]

use clap::Parser;
use hospital_simulation::{
    platform::build::shipped,
    run::{Args, run},
};

/// Each with what it found.
const KEPT: [(u64, &str); 3] = [
    (0, "a service is killed: the first round that was ever played"),
    (12, "a change of nothing makes no version, and the oracle had wanted one"),
    (42, "sessions are ended while the server restarts, and the simulation had not waited for it"),
];

#[tokio::test(flavor = "multi_thread")]
async fn seeds_that_once_found_something_pass() {
    for (seed, what) in KEPT {
        let args = ["simulation", "--rounds", "1", "--seed", &seed.to_string()];
        let summary = run(&Args::parse_from(args)).await.unwrap();
        assert_eq!(summary.violations, [], "{seed}: {what}");
    }
}

#[test]
fn what_is_shipped_has_nothing_of_the_simulation_to_turn_on() {
    let shipped = std::fs::read(shipped().unwrap()).unwrap();
    let has = |word: &[u8]| shipped.windows(word.len()).any(|window| window == word);
    assert!(has(b"HOSPITAL_DATA_DIR"), "a word that must be there, to see that words are found");
    for word in ["HOSPITAL_TEST_DEFECT", "clock_file"] {
        assert!(!has(word.as_bytes()), "{word}");
    }
}
