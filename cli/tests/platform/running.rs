use std::{
    collections::{BTreeMap, HashSet},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{LazyLock, Mutex, mpsc},
    time::{Duration, Instant},
};

use hospital_testkit::{Kafka, KafkaMode, PATIENCE, Running, Signal, eventually, output, signal};
use serde_json::{Value, json};

pub(crate) const HOSPITAL: &str = env!("CARGO_BIN_EXE_hospital");

pub(crate) fn records() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/synthea")
}

/// What importing the records must end in, worked out from the files alone.
pub(crate) fn expected() -> Value {
    let text = std::fs::read_to_string(records().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A platform of a test's own, in a directory of its own, on ports of its own.
pub(crate) struct Platform {
    supervisor: Option<Running>,
    /// Real Kafka, where the tests are to run on it; otherwise events travel through PostgreSQL.
    pub(crate) kafka: Option<Kafka>,
    dir: tempfile::TempDir,
    pub(crate) base_port: u16,
    /// Hears from `up` once it is open.
    open: Option<mpsc::Receiver<()>>,
}

impl Platform {
    pub(crate) fn start() -> Self {
        Self::start_with(KafkaMode::asked_for().map(|mode| Kafka::start(mode, 1).unwrap()))
    }

    pub(crate) fn start_with(kafka: Option<Kafka>) -> Self {
        let mut platform = Self::begin(kafka);
        platform.await_open();
        platform
    }

    /// Starts it, and does not wait for it.
    pub(crate) fn begin(kafka: Option<Kafka>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base_port = free_base_port();
        let mut platform = Self { dir, supervisor: None, kafka, base_port, open: None };
        platform.begin_again();
        platform
    }

    /// Starts it where it was.
    pub(crate) fn start_again(&mut self) {
        self.begin_again();
        self.await_open();
    }

    fn begin_again(&mut self) {
        let mut command = Command::new(HOSPITAL);
        command
            .arg("--data-dir")
            .arg(self.data())
            .args(["--base-port", &self.base_port.to_string(), "up", "--supervised"])
            .args(self.kafka.iter().flat_map(|kafka| ["--kafka", kafka.servers()]))
            .env_remove("DATABASE_URL")
            .env_remove("KAFKA_BOOTSTRAP_SERVERS")
            // Its end is our end, however we end.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(self.dir.path().join("stderr")).unwrap());
        let mut supervisor = Running::start(&mut command);
        let greeting = BufReader::new(supervisor.child().stdout.take().unwrap()).lines();
        self.supervisor = Some(supervisor);
        let (open, opened) = mpsc::channel();
        // Read to its end, or a supervisor that prints meets a closed pipe.
        std::thread::spawn(move || {
            for line in greeting.map_while(Result::ok) {
                if line.contains("The hospital is open") {
                    // Nobody waits for it any more when the test has ended.
                    let _ = open.send(());
                }
            }
        });
        self.open = Some(opened);
    }

    /// Waits until it says that it is open.
    pub(crate) fn await_open(&mut self) {
        let open = self.open.take().expect("it was begun").recv_timeout(PATIENCE);
        assert!(open.is_ok(), "`up` does not open ({open:?}): {}", self.told());
    }

    /// Waits until every service says that it is ready.
    pub(crate) async fn ready(&self) {
        for port in 1..=4 {
            let url = format!("http://127.0.0.1:{}/health/ready", self.base_port + port);
            eventually(&url, async || {
                client().get(&url).send().await.ok().filter(|answer| answer.status() == 200)
            })
            .await;
        }
    }

    /// Kills the supervisor, and nobody else.
    pub(crate) fn kill(&mut self) {
        let mut supervisor = self.supervisor.take().unwrap();
        supervisor.kill();
    }

    pub(crate) async fn await_end(&self, pid: u64) {
        let process = format!("/proc/{pid}");
        eventually("the end of a process", async || (!Path::new(&process).exists()).then_some(()))
            .await;
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What the supervisor has said about crashes.
    pub(crate) fn told(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(HOSPITAL);
        command.arg("--data-dir").arg(self.data()).args(args).current_dir(self.dir.path());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        output(&mut self.command(args))
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub(crate) fn must(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {out}{err}{}", self.told());
        out.into_owned()
    }

    pub(crate) fn import(&self, workers: u32) -> Command {
        self.import_of(&records(), workers)
    }

    pub(crate) fn import_of(&self, records: &Path, workers: u32) -> Command {
        let (records, workers) = (records.display().to_string(), workers.to_string());
        self.command(&["import", "synthea", &records, "--workers", &workers])
    }

    pub(crate) fn report(&self) -> Value {
        let text = std::fs::read_to_string(self.dir.path().join("import-report.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn file(&self) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.data().join("platform.json")).unwrap())
            .unwrap()
    }

    /// The process id of a service, or of `postgres`; `None` while it is being restarted.
    pub(crate) fn pid(&self, name: &str) -> Option<u64> {
        let file = self.file();
        let pid = if name == "postgres" {
            file["databasePid"].as_u64()
        } else {
            let services = file["services"].as_array().unwrap();
            services.iter().find(|service| service["name"] == name).unwrap()["pid"].as_u64()
        };
        pid.filter(|pid| *pid > 0)
    }

    pub(crate) fn database_url(&self) -> String {
        self.file()["databaseUrl"].as_str().unwrap().to_owned()
    }

    /// The database, as its owner: for what is done behind the services' back.
    pub(crate) async fn database(&self) -> tokio_postgres::Client {
        let (client, connection) =
            tokio_postgres::connect(&self.database_url(), tokio_postgres::NoTls).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "ends with the client")]
        tokio::spawn(connection);
        client
    }

    /// The bus is lost with all its data, and comes back empty.
    pub(crate) async fn lose_the_bus(&mut self, database: &tokio_postgres::Client) {
        match &mut self.kafka {
            Some(kafka) => tokio::task::block_in_place(|| kafka.begin_anew()).unwrap(),
            None => database
                .batch_execute("TRUNCATE bus.topic, bus.partition, bus.message, bus.group_offset")
                .await
                .unwrap(),
        }
    }

    /// Every item of a list, by requests.
    pub(crate) async fn all(&self, port: u16, path: &str) -> Vec<Value> {
        static TOKENS: LazyLock<Mutex<BTreeMap<PathBuf, String>>> = LazyLock::new(Mutex::default);
        let token = {
            let mut tokens = TOKENS.lock().unwrap();
            let token = tokens.entry(self.data()).or_insert_with(|| {
                let roles =
                    ["--role", "front-desk", "--role", "cashier", "--role", "billing-manager"];
                self.must(&[&["token"], roles.as_slice()].concat()).trim().to_owned()
            });
            token.clone()
        };
        let url = format!("http://127.0.0.1:{}{path}", self.base_port + port);
        let (mut items, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut query = vec![("limit", "50".to_owned())];
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            let answer = client().get(&url).query(&query).bearer_auth(&token).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{url}");
            let page: Value = answer.json().await.unwrap();
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            cursor = page["nextCursor"].as_str().map(ToOwned::to_owned);
            if cursor.is_none() {
                return items;
            }
        }
    }

    /// What is there, in the words of the records' expected result, from requests alone.
    pub(crate) async fn totals(&self) -> Value {
        let (bills, payments) = (self.all(3, "/bills").await, self.all(3, "/payments").await);
        let with = |items: &[Value], status: &str| {
            items.iter().filter(|item| item["status"] == status).count()
        };
        let sum = |member: &str| {
            let cents: i64 = bills.iter().map(|bill| cents(&bill[member])).sum();
            format!("{}.{:02}", cents / 100, cents % 100)
        };
        json!({
            "patients": self.all(1, "/patients").await.len(),
            "practitioners": self.all(2, "/practitioners").await.len(),
            "appointments_booked": self.all(2, "/appointments").await.len(),
            "bills": bills.len(),
            "bill_lines": bills.iter().map(|bill| bill["lines"].as_array().unwrap().len()).sum::<usize>(),
            "bills_issued": with(&bills, "issued"),
            "bills_paid": with(&bills, "paid"),
            "payments_succeeded": with(&payments, "succeeded"),
            "amount_billed": sum("total"),
            "amount_paid": sum("paid"),
            "amount_outstanding": sum("outstanding"),
        })
    }

    /// Asserts that requests give what the records must end in, and the report what was refused.
    pub(crate) async fn assert_imported(&self) {
        let (expected, totals) = (expected(), self.totals().await);
        for (name, value) in totals.as_object().unwrap() {
            assert_eq!(value, &expected[name], "{name}: {totals}");
        }
        let counts = &self.report()["counts"];
        assert_eq!(counts["appointments"]["refused"], expected["appointments_refused"]);
        assert_eq!(counts["payments"]["refused"], expected["payments_refused"]);
    }

    pub(crate) fn verify(&self) -> Output {
        self.run(&["verify", "--json"])
    }

    /// Ends it politely and gives how long that took.
    pub(crate) fn stop(&mut self) -> Duration {
        let mut supervisor = self.supervisor.take().unwrap();
        let started = Instant::now();
        signal(supervisor.id(), Signal::INT);
        assert!(supervisor.wait(PATIENCE).success(), "{}", self.told());
        started.elapsed()
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if let Some(mut supervisor) = self.supervisor.take() {
            // Closing its input ends it at once, and its services and PostgreSQL with it. A test that failed has nothing to say about how
            // its platform ended, and what does not end is killed.
            drop(supervisor.child().stdin.take());
            let deadline = Instant::now() + Duration::from_secs(30);
            while matches!(supervisor.child().try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

pub(crate) fn client() -> reqwest::Client {
    static CLIENT: LazyLock<()> = LazyLock::new(hospital_kit::client::install_tls_provider);
    LazyLock::force(&CLIENT);
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap()
}

/// The base address of a service of a platform.
pub(crate) fn url(base_port: u16, service: &str) -> String {
    let place =
        ["patient", "appointment", "billing", "notification"].iter().position(|s| *s == service);
    format!("http://127.0.0.1:{}", base_port + 1 + u16::try_from(place.unwrap()).unwrap())
}

/// Minor units of an amount with two decimals.
pub(crate) fn cents(money: &Value) -> i64 {
    money["amount"].as_str().unwrap().replace('.', "").parse().unwrap()
}

/// Five ports in a row that nobody listens on and that no other test of this process has.
pub(crate) fn free_base_port() -> u16 {
    static TAKEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    let mut taken = TAKEN.lock().unwrap();
    let first = 20_000 + u16::try_from(std::process::id() % 1000).unwrap() * 10;
    (0..1000)
        .map(|n| first + n * 10)
        .find(|base| {
            let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", base + port)).is_ok();
            !taken.contains(base) && (0..=8).all(free) && taken.insert(*base)
        })
        .expect("there are free ports")
}
