//! The programs under test: built by cargo if it is there, found beside this one otherwise.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

use crate::Defect;

#[derive(Clone, Debug)]
pub struct Programs {
    /// What is shipped: `verify`.
    pub hospital: PathBuf,
    /// What runs the services: the libraries that are shipped, with what only the simulation may do
    /// to them.
    pub services: PathBuf,
    pub environment: Vec<(String, String)>,
}

impl Programs {
    /// Builds what is missing or old, where cargo runs us; says what to build where it does not. A test of the workspace takes what
    /// `cargo test` has built for it.
    ///
    /// # Errors
    /// When a program is missing and cannot be built.
    pub fn find(defect: Option<Defect>) -> anyhow::Result<Self> {
        let (beside, _) = beside()?;
        let what = ["--workspace", "--features", "hospital-simulation/simulation"];
        let services = program(&beside, "hospital-simulated", &what)?;
        let defect = defect.map(|defect| defect.name().to_owned());
        let environment =
            defect.map(|name| ("HOSPITAL_TEST_DEFECT".to_owned(), name)).into_iter().collect();
        Ok(Self { hospital: shipped()?, services, environment })
    }
}

/// The program that is shipped, found or built like the others.
///
/// # Errors
/// When it is missing and cannot be built.
pub fn shipped() -> anyhow::Result<PathBuf> {
    let (beside, tested) = beside()?;
    // With the features of the whole workspace, so that dependencies are those which are compiled
    // already.
    match beside.join("hospital") {
        built if tested && built.exists() => Ok(built),
        _ => program(&beside, "hospital", &["--workspace"]),
    }
}

/// The directory of the programs, and whether this is a test.
fn beside() -> anyhow::Result<(PathBuf, bool)> {
    let own = std::env::current_exe().context("finding this program's own file")?;
    let mut beside = own.parent().context("its directory")?.to_owned();
    // Tests are one directory further down.
    let tested = beside.ends_with("deps");
    if tested {
        beside.pop();
    }
    Ok((beside, tested))
}

fn program(beside: &Path, name: &str, what: &[&str]) -> anyhow::Result<PathBuf> {
    let path = beside.join(name);
    let mut build = vec!["build", "--locked", "--bin", name];
    build.extend(what);
    // As this program was built: cargo names the directory after the profile, but for that of `dev`.
    let profile = beside.file_name().and_then(|name| name.to_str()).unwrap_or("debug");
    if profile != "debug" {
        build.extend(["--profile", profile]);
    }
    let said = || format!("cargo {}", build.join(" "));
    // Set by `cargo run` and `cargo test`.
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut command = Command::new(cargo);
        command
            .args(&build)
            .arg("--quiet")
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        // What cargo tells a program of its package, dependencies' build scripts ask for too: with it they would all be built anew.
        for (name, _) in std::env::vars_os() {
            if ["CARGO_MANIFEST_", "CARGO_PKG_"]
                .iter()
                .any(|told| name.to_string_lossy().starts_with(told))
            {
                command.env_remove(name);
            }
        }
        let status = command.status().with_context(said)?;
        if !status.success() {
            bail!("{} failed ({status})", said());
        }
    }
    if !path.exists() {
        bail!("{} is missing; build it with: {}", path.display(), said());
    }
    Ok(path)
}
