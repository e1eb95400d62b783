//! How long the four services take from their start until they are ready, and how much memory they take.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::{
    http::Connection,
    platform::Program,
    processor::{self, Memory},
    stage::{RUN, Stage},
    workload::Service,
};

/// Starts the four services on the schema as it is, and gives the time until the last of them said that it is ready.
pub(crate) async fn start(stage: &Stage) -> anyhow::Result<Duration> {
    let program = &stage.program;
    let passwords =
        std::fs::read(program.dir.join("passwords.json")).context("the services' passwords")?;
    let passwords: BTreeMap<String, String> = serde_json::from_slice(&passwords)?;
    let started = Instant::now();
    let mut children = Children(Vec::new());
    for service in Service::ALL {
        let password = &passwords[service.name()];
        let url = stage.cluster.url(&format!("hospital_{}", service.name()), password, RUN);
        children.0.push(spawn(program, service, &url)?);
    }
    for address in program.addresses() {
        let mut connection = Connection::new(address);
        loop {
            let request = b"GET /health/ready HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
            if connection.exchange(request).await.is_ok_and(|answer| answer.status == 200) {
                break;
            }
            if started.elapsed() > Duration::from_secs(30) {
                bail!("not ready after {:?}", started.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(started.elapsed())
}

fn spawn(program: &Program, service: Service, url: &str) -> anyhow::Result<Child> {
    let address = program.addresses()[service.place()];
    let table = service.name().to_ascii_uppercase();
    let patient_url = format!("http://{}", program.addresses()[Service::Patient.place()]);
    let appointment_url = format!("http://{}", program.addresses()[Service::Appointment.place()]);
    let file = |name: &str| -> std::path::PathBuf { Path::new(&program.dir).join(name) };
    Command::new(&program.path)
        .args(["serve", service.name()])
        .env(format!("HOSPITAL_{table}__LISTEN"), address.to_string())
        .env(format!("HOSPITAL_{table}__DATABASE_URL"), url)
        .env("HOSPITAL_APPOINTMENT__PATIENT_URL", &patient_url)
        .env("HOSPITAL_NOTIFICATION__PATIENT_URL", &patient_url)
        .env("HOSPITAL_NOTIFICATION__APPOINTMENT_URL", &appointment_url)
        .env("HOSPITAL_NOTIFICATION__MAILBOX_DIR", file("mailbox"))
        .env("HOSPITAL_AUTH__SIGNING_KEY_FILE", file("signing-key.pem"))
        .env_remove("DATABASE_URL")
        .env_remove("KAFKA_BOOTSTRAP_SERVERS")
        .env_remove("HOSPITAL_CONFIG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting a service")
}

/// Ended, and waited for, when dropped.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended by itself is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The memory of the four services together.
pub(crate) fn memory(services: &[(Service, u32)]) -> Memory {
    services.iter().map(|(_, pid)| processor::memory(*pid)).fold(Memory::default(), |sum, one| {
        Memory {
            resident: sum.resident + one.resident,
            proportional: sum.proportional + one.proportional,
        }
    })
}
