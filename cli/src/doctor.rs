//! `hospital doctor`: what is missing or wrong on this machine, and the command that mends it.

use std::{
    net::TcpListener,
    os::unix::fs::DirBuilderExt,
    path::Path,
    process::{Command, ExitCode},
};

use console::style;
use hospital_cluster::Installation;
use serde::Serialize;

use crate::platform::{PlatformArgs, SERVICE_COUNT, probe_port};

/// Says what is missing or wrong on this machine, and the command that mends it
#[derive(clap::Args)]
pub(crate) struct DoctorArgs {
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Finding {
    what: &'static str,
    good: bool,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, good: true, found: found.into(), mend: None }
    }

    fn bad(what: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what, good: false, found: found.into(), mend: Some(mend.into()) }
    }
}

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(crate) fn run(args: &DoctorArgs, platform: &PlatformArgs) -> ExitCode {
    let findings = [
        postgresql(),
        extension(),
        data_dir(&platform.data_dir),
        space(&platform.data_dir),
        memory(),
        ports(platform),
    ];
    let all_good = findings.iter().all(|f| f.good);
    if args.json {
        println!("{}", serde_json::json!({ "good": all_good, "findings": findings }));
    } else {
        for finding in &findings {
            let mark = if finding.good { style("✓").green() } else { style("✗").red() };
            println!("{mark} {:<16} {}", finding.what, finding.found);
            if let Some(mend) = &finding.mend {
                println!("  {:<16} {} {mend}", "", style("→").yellow());
            }
        }
        println!();
        println!(
            "{}",
            if all_good {
                "This machine is ready: hospital up"
            } else {
                "Mend what is marked, then look again."
            }
        );
    }
    if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn output(program: &Path, argument: &str) -> Option<String> {
    let output =
        Command::new(program).arg(argument).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn postgresql() -> Finding {
    let what = "PostgreSQL";
    let install = "apt-get install --yes postgresql";
    match Installation::find() {
        None => Finding::bad(what, "its server is not installed", install),
        Some(found) => match output(&found.bin().join("postgres"), "--version") {
            Some(version) => Finding::good(what, format!("{version} in {}", found.bin().display())),
            None => Finding::bad(what, format!("{} does not run", found.bin().display()), install),
        },
    }
}

fn extension() -> Finding {
    let what = "btree_gist";
    let Some(found) = Installation::find() else {
        return Finding::bad(what, "comes with PostgreSQL", "apt-get install --yes postgresql");
    };
    let share = output(&found.bin().join("pg_config"), "--sharedir").or_else(|| {
        let version = found.bin().parent()?.file_name()?.to_str()?.to_owned();
        Some(format!("/usr/share/postgresql/{version}"))
    });
    let there =
        share.as_ref().is_some_and(|s| Path::new(s).join("extension/btree_gist.control").exists());
    if there {
        Finding::good(what, "is there: no double booking, decided by the database")
    } else {
        Finding::bad(
            what,
            "PostgreSQL's extension is missing",
            "apt-get install --yes postgresql-contrib",
        )
    }
}

fn data_dir(dir: &Path) -> Finding {
    let what = "data directory";
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).and_then(|()| {
        let probe = dir.join("doctor.probe");
        std::fs::write(&probe, b"x").and_then(|()| std::fs::remove_file(probe))
    });
    match made {
        Ok(()) => Finding::good(what, format!("{} can be written", dir.display())),
        Err(e) => {
            Finding::bad(what, format!("{}: {e}", dir.display()), "take another: --data-dir DIR")
        }
    }
}

fn space(dir: &Path) -> Finding {
    let what = "disk";
    match rustix::fs::statvfs(dir) {
        Err(e) => {
            Finding::bad(what, format!("cannot be looked at: {e}"), "take another: --data-dir DIR")
        }
        Ok(stat) => {
            let free_mb = stat.f_bavail.saturating_mul(stat.f_frsize) / 1_000_000;
            if free_mb >= 1000 {
                Finding::good(what, format!("{} GB free", free_mb / 1000))
            } else {
                Finding::bad(
                    what,
                    format!("{free_mb} MB free, 1 GB wanted"),
                    "make room, or take another: --data-dir DIR",
                )
            }
        }
    }
}

fn memory() -> Finding {
    let what = "memory";
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available_kb: Option<u64> = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
    match available_kb {
        Some(kb) if kb < 400_000 => {
            Finding::bad(what, format!("{} MB available, 400 wanted", kb / 1000), "close something")
        }
        Some(kb) => Finding::good(what, format!("{} MB available", kb / 1000)),
        None => Finding::good(what, "cannot be looked at here"),
    }
}

fn ports(platform: &PlatformArgs) -> Finding {
    let what = "ports";
    if platform.find().is_ok() && platform.file_path().exists() {
        return Finding::good(
            what,
            format!("a platform runs from {}", platform.data_dir.display()),
        );
    }
    let base = platform.base_port_or_default();
    // The services' own, and those where they are probed.
    let last = probe_port(base, SERVICE_COUNT);
    let taken: Vec<String> = (base + 1..=last)
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_err())
        .map(|port| port.to_string())
        .collect();
    if taken.is_empty() {
        Finding::good(what, format!("{} to {last} are free", base + 1))
    } else {
        Finding::bad(
            what,
            format!("{} in use by something else", taken.join(", ")),
            "take others: --base-port 9080",
        )
    }
}
