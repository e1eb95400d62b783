//! The programs under test: built by cargo if it is there, found beside this one otherwise.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

use crate::Defect;

#[derive(Clone, Debug)]
pub struct Programs {
    /// What is shipped: `verify`, and the services unless they are to be defective.
    pub hospital: PathBuf,
    /// What runs the services.
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
        let own = std::env::current_exe().context("finding this program's own file")?;
        let mut beside = own.parent().context("its directory")?.to_owned();
        // Tests are one directory further down.
        let tested = beside.ends_with("deps");
        if tested {
            beside.pop();
        }
        // With the features of the whole workspace, so that dependencies are those which are compiled already.
        let hospital = match beside.join("hospital") {
            built if tested && built.exists() => built,
            _ => program(&beside, "hospital", &["--workspace"])?,
        };
        let Some(defect) = defect else {
            return Ok(Self { services: hospital.clone(), hospital, environment: Vec::new() });
        };
        let what = ["--workspace", "--features", "hospital-simulation/defects"];
        let services = program(&beside, "hospital-defective", &what)?;
        let environment = vec![("HOSPITAL_TEST_DEFECT".to_owned(), defect.name().to_owned())];
        Ok(Self { hospital, services, environment })
    }
}

fn program(beside: &Path, name: &str, what: &[&str]) -> anyhow::Result<PathBuf> {
    let path = beside.join(name);
    let mut build = vec!["build", "--locked", "--bin", name];
    build.extend(what);
    if beside.ends_with("release") {
        build.push("--release");
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
