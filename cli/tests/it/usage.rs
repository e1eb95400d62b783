use std::{
    path::Path,
    process::{Command, Output},
};

use hospital_testkit::output;

use crate::HOSPITAL;

fn hospital(args: &[&str]) -> Output {
    let nowhere = tempfile::tempdir().unwrap();
    let mut command = Command::new(HOSPITAL);
    command.args(args).current_dir(nowhere.path()).env_remove("DATABASE_URL");
    output(&mut command)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_documents_that_are_checked_in_are_current() {
    let openapi = ["patient", "appointment", "billing", "notification"]
        .map(|service| (format!("openapi {service}"), format!("api/{service}.json")));
    let asyncapi = ("asyncapi".to_owned(), "api/events.json".to_owned());
    for (command, file) in openapi.into_iter().chain([asyncapi]) {
        let output = hospital(&command.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "{}", said(&output));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&file);
        let current = String::from_utf8(output.stdout).unwrap();
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == current, "it is old: hospital {command} > {file}");
    }
}

#[test]
fn without_a_platform_a_command_says_how_to_start_one() {
    for args in [
        &["token", "--role", "cashier"] as &[&str],
        &["demo"],
        &["verify"],
        &["dlq", "list"],
        &["jobs", "list"],
        &["replay", "--from-outbox"],
        &["journey", "2026-000001"],
        &["import", "synthea", "/"],
    ] {
        let output = hospital(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", said(&output));
        assert!(said(&output).contains("hospital up"), "{args:?}: {}", said(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_wrong_argument_is_said_with_what_would_be_right() {
    for (args, word) in [
        (
            &["token", "--role", "king"] as &[&str],
            "front-desk, practitioner, cashier, billing-manager",
        ),
        (&["serve", "pharmacy"], "patient, appointment, billing, notification"),
        (&["token", "--role", "cashier", "--ttl", "soon"], "12h"),
        (&["fly"], "Usage"),
    ] {
        let output = hospital(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(said(&output).contains(word), "{args:?}: {}", said(&output));
    }
}

#[test]
fn a_service_without_settings_says_which_are_missing() {
    let output = hospital(&["serve", "billing"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("HOSPITAL_BILLING__DATABASE_URL"), "{}", said(&output));
}
