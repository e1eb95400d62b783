//! The services as processes of their own, which start and end when a test says so: nobody restarts them. The bus has a PostgreSQL or a Kafka
//! of its own, and so can be away while every service's database is there; billing's database can be on a server of its own too.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use hospital_cluster::{Cluster, Options};
use hospital_kit::auth::SigningKey;
use hospital_testkit::{Kafka, PATIENCE, Running, Signal, eventually_within, output, signal};
use serde_json::json;
use tokio::task::block_in_place;

use crate::running::{self, HOSPITAL, client, free_base_port};

pub(crate) const SERVICES: [&str; 4] = ["patient", "appointment", "billing", "notification"];

/// What is different from the usual.
#[derive(Default)]
pub(crate) struct Wishes {
    /// Events travel through this cluster; otherwise through a PostgreSQL of the bus's own.
    pub(crate) kafka: Option<Kafka>,
    /// A PostgreSQL for billing alone. `verify` looks into one database, and so cannot be asked.
    pub(crate) billing_apart: bool,
    /// How long a booking waits for the patient service: long, because on a machine that runs every test at once being slow is no fault.
    pub(crate) patient_check_ms: Option<u64>,
    /// More of the configuration file.
    pub(crate) settings: String,
}

pub(crate) struct Apart {
    running: BTreeMap<&'static str, Running>,
    databases: BTreeMap<&'static str, Cluster>,
    pub(crate) kafka: Option<Kafka>,
    pub(crate) base_port: u16,
    dir: tempfile::TempDir,
}

impl Apart {
    pub(crate) async fn start(wishes: Wishes) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut names = vec!["all"];
        names.extend(wishes.kafka.is_none().then_some("bus"));
        names.extend(wishes.billing_apart.then_some("billing"));
        let databases = block_in_place(|| {
            let open = |name: &'static str| {
                let dir = dir.path().join(name);
                let options = Options { dir, durable: true, ..Options::default() };
                (name, Cluster::open(&options).unwrap())
            };
            names.into_iter().map(open).collect()
        });
        SigningKey::generate().unwrap().save(&dir.path().join("signing-key.pem")).unwrap();
        let mut apart = Self {
            running: BTreeMap::new(),
            databases,
            kafka: wishes.kafka,
            base_port: free_base_port(),
            dir,
        };
        let file = apart.settings(wishes.patient_check_ms.unwrap_or(5000));
        let file = file + &wishes.settings;
        std::fs::write(apart.config(), file).unwrap();
        // The bus grants to roles, so its server has them first.
        for name in ["bus", "billing", "all"] {
            if apart.databases.contains_key(name) {
                apart.must(&["migrate", "--owner-url", &apart.owner_url(name)]);
            }
        }
        apart.write_platform_file();
        for name in SERVICES {
            apart.spawn(name);
        }
        apart.ready().await;
        apart
    }

    /// The owner's URL of a server's database.
    pub(crate) fn owner_url(&self, name: &str) -> String {
        self.databases[name].owner_url("postgres")
    }

    fn settings(&self, patient_check_ms: u64) -> String {
        let mut file = String::new();
        let key = self.dir.path().join("signing-key.pem");
        writeln!(file, "auth.signing_key_file = {key:?}").unwrap();
        match &self.kafka {
            Some(kafka) => {
                writeln!(
                    file,
                    "bus = {{ kind = \"kafka\", bootstrap_servers = {:?}, partitions = 3 }}",
                    kafka.servers()
                )
                .unwrap();
            }
            None => {
                writeln!(file, "bus = {{ url = {:?}, partitions = 3 }}", self.owner_url("bus"))
                    .unwrap();
            }
        }
        writeln!(file, "appointment.patient_url = {:?}", self.url("patient")).unwrap();
        writeln!(file, "appointment.patient_check_timeout_ms = {patient_check_ms}").unwrap();
        writeln!(file, "http.handler_timeout_ms = 8000").unwrap();
        writeln!(file, "notification.patient_url = {:?}", self.url("patient")).unwrap();
        writeln!(file, "notification.appointment_url = {:?}", self.url("appointment")).unwrap();
        writeln!(file, "notification.mailbox_dir = {:?}", self.mailbox()).unwrap();
        for name in SERVICES {
            let server = if self.databases.contains_key(name) { name } else { "all" };
            let role = format!("hospital_{name}");
            let url = self.databases[server].url(&role, "secret", "postgres");
            writeln!(file, "{name}.database_url = {url:?}").unwrap();
            let listen = self.url(name).replace("http://", "");
            writeln!(file, "{name}.listen = {listen:?}").unwrap();
            writeln!(file, "{name}.probe_listen = \"127.0.0.1:0\"").unwrap();
        }
        file
    }

    /// What `up` would write down, so that every other command finds the platform.
    fn write_platform_file(&self) {
        let url = self.owner_url("all");
        let bus = match &self.kafka {
            Some(kafka) => {
                json!({"kind": "kafka", "bootstrapServers": kafka.servers(), "config": self.config()})
            }
            None => json!({"kind": "postgres", "url": self.owner_url("bus")}),
        };
        let file = json!({
            "supervisorPid": 0, "basePort": self.base_port, "services": [], "databaseUrl": url, "databasePid": null,
            "bus": bus, "signingKey": self.dir.path().join("signing-key.pem"), "mailbox": self.mailbox(),
        });
        std::fs::write(self.dir.path().join("platform.json"), file.to_string()).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("hospital.toml")
    }

    pub(crate) fn mailbox(&self) -> PathBuf {
        self.dir.path().join("mailbox")
    }

    pub(crate) fn url(&self, service: &str) -> String {
        running::url(self.base_port, service)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(HOSPITAL);
        command
            .arg("--data-dir")
            .arg(self.dir.path())
            .args(args)
            .env("HOSPITAL_CONFIG", self.config())
            .env_remove("DATABASE_URL")
            .env_remove("KAFKA_BOOTSTRAP_SERVERS");
        command
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub(crate) fn must(&self, args: &[&str]) -> String {
        let output = output(&mut self.command(args));
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {out}{err}");
        out.into_owned()
    }

    fn spawn(&mut self, service: &'static str) {
        let log = File::options().create(true).append(true).open(self.log(service)).unwrap();
        let mut serve = self.command(&["serve", service, "--supervised"]);
        serve.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        self.running.insert(service, Running::start(&mut serve));
    }

    pub(crate) fn log(&self, service: &str) -> PathBuf {
        self.dir.path().join(format!("{service}.log"))
    }

    /// Ends a service as a crash would.
    pub(crate) fn kill(&mut self, service: &str) {
        self.running.remove(service).expect("it runs").kill();
    }

    /// Ends a service politely.
    pub(crate) fn stop(&mut self, service: &str) {
        let mut running = self.running.remove(service).expect("it runs");
        signal(running.id(), Signal::TERM);
        assert!(block_in_place(|| running.wait(PATIENCE)).success());
    }

    /// Starts a service that was ended, and waits until it says that it is ready.
    pub(crate) async fn start_again(&mut self, service: &'static str) {
        self.spawn(service);
        self.ready_one(service).await;
    }

    /// `STOP` makes a service take requests and never answer; `CONT` ends that.
    pub(crate) fn signal(&self, service: &str, which: Signal) {
        signal(self.running[service].id(), which);
    }

    pub(crate) fn kill_database(&mut self, name: &str) {
        let database = self.databases.get_mut(name).unwrap();
        block_in_place(|| database.kill());
    }

    pub(crate) fn restart_database(&mut self, name: &str) {
        let database = self.databases.get_mut(name).unwrap();
        block_in_place(|| database.restart().unwrap());
    }

    async fn ready_one(&self, service: &str) {
        let what = format!("the {service} service to be ready");
        eventually_within(Duration::from_secs(60), &what, async || {
            (self.readiness(service).await.0 == 200).then_some(())
        })
        .await;
    }

    pub(crate) async fn ready(&self) {
        for name in SERVICES {
            self.ready_one(name).await;
        }
    }

    /// The status and the text of a service's readiness; 0 when it does not answer.
    pub(crate) async fn readiness(&self, service: &str) -> (u16, String) {
        let url = format!("{}/health/ready", self.url(service));
        match client().get(url).send().await {
            Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap_or_default()),
            Err(e) => (0, e.to_string()),
        }
    }

    /// Asserts every invariant.
    pub(crate) fn verify(&self) {
        block_in_place(|| self.must(&["verify"]));
    }
}
