use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use hospital_testkit::output;

use crate::running::{HOSPITAL, Platform};

/// The commands of the README's tour, in order.
fn tour() -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(readme).unwrap();
    let blocks = text.split("```sh tour\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap()).collect()
}

/// Types the tour where `./run` is, with the executable that is built already in place of what cargo would build.
fn type_it(platform: &Platform, script: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let cargo = dir.path().join("cargo");
    let text = format!(
        "#!/bin/sh\n[ \"$1 $2 $3 $4 $5\" = 'run --quiet --profile local --' ] || exit 9\nshift 5\nexec {HOSPITAL} \"$@\"\n"
    );
    std::fs::write(&cargo, text).unwrap();
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(dir.path().join("local")).unwrap();
    std::fs::write(dir.path().join("local/hospital"), "").unwrap();
    #[expect(clippy::disallowed_methods, reason = "where programs are")]
    let path = std::env::var("PATH").unwrap();
    let mut bash = Command::new("bash");
    bash.args(["-c", script])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .env("PATH", format!("{}:{path}", dir.path().display()))
        .env("CARGO_TARGET_DIR", dir.path())
        .env("HOSPITAL_DATA_DIR", platform.data());
    output(&mut bash)
}

#[test]
fn the_readme_s_tour_works_as_printed() {
    let platform = Platform::start();
    let mut script = format!("set -eu\n{}", tour());
    for service in 1..=4 {
        let printed = format!("127.0.0.1:808{service}");
        assert!(script.contains(&printed), "the tour asks port 808{service}");
        script = script.replace(&printed, &format!("127.0.0.1:{}", platform.base_port + service));
    }
    let output = type_it(&platform, &script);
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
