use std::path::Path;

use crate::running::{HOSPITAL, Platform};

/// The commands of the README's tour, in order.
fn tour() -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(readme).unwrap();
    let blocks = text.split("```sh tour\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap()).collect()
}

#[test]
fn the_readme_s_tour_works_as_printed() {
    let platform = Platform::start();
    let dir = tempfile::tempdir().unwrap();
    // `./run` builds and calls the executable; here it is built already, and listens elsewhere.
    let run =
        format!("#!/bin/sh\nexec {HOSPITAL} --data-dir {} \"$@\"\n", platform.data().display());
    std::fs::write(dir.path().join("run"), run).unwrap();
    assert!(
        std::process::Command::new("chmod")
            .arg("+x")
            .arg(dir.path().join("run"))
            .status()
            .unwrap()
            .success()
    );
    let mut script = format!("set -eu\n{}", tour());
    for service in 1..=4 {
        let printed = format!("127.0.0.1:808{service}");
        assert!(script.contains(&printed), "the tour asks port 808{service}");
        script = script.replace(&printed, &format!("127.0.0.1:{}", platform.base_port + service));
    }
    let output = std::process::Command::new("bash")
        .args(["-c", &script])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert_eq!(err, "", "{out}");
    for told in [
        r#""code":"slot-unavailable""#,
        r#""alternatives":[{"#,
        r#""code":"overpayment""#,
        r#""outstanding":{"amount":"70.00","currency":"USD"}"#,
        r#""status":"paid""#,
        r#""kind":"appointment-booked""#,
    ] {
        assert!(out.contains(told), "{told} in {out}");
    }
    assert!(platform.verify().status.success());
}
