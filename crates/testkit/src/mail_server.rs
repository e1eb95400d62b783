//! A mail server that behaves as it is told to.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hospital_kit::config::{SmtpConfig, SmtpTls};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
};

/// What the server does with one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Accepts,
    /// 451: try again later.
    Busy,
    /// 550: there is no such mailbox, and it says which.
    Refuses,
    /// Takes the message, and drops the line instead of saying so.
    DropsAfterData,
    /// Takes the message, and says so after a second.
    Dawdles,
    /// The same, after eight seconds.
    DawdlesLong,
    /// Takes the message, and never says another word.
    Stalls,
}

impl Mood {
    /// How long it takes over what it has taken.
    const fn dawdles(self) -> Duration {
        match self {
            Self::Dawdles => Duration::from_secs(1),
            Self::DawdlesLong => Duration::from_secs(8),
            _ => Duration::ZERO,
        }
    }
}

/// A mail server on loopback that keeps what it takes.
#[derive(Clone)]
pub struct MailServer {
    pub address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    /// Whether it knows addresses beyond ASCII (RFC 6531).
    international: bool,
    connections: usize,
    /// `MAIL FROM` and `RCPT TO` of the messages that were taken.
    envelopes: Vec<(String, String)>,
    /// For the messages to come, in order; the last stays.
    script: Vec<Mood>,
    /// All messages that were taken, acknowledged or not.
    taken: Vec<String>,
}

impl MailServer {
    /// Listens and takes messages as the script says.
    pub async fn start(script: &[Mood]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        Self::on(listener, script)
    }

    /// The same, one that announces `SMTPUTF8` and takes addresses in any script.
    pub async fn start_international(script: &[Mood]) -> Self {
        let server = Self::start(script).await;
        server.inner().international = true;
        server
    }

    /// The same on a given listener: for an address at which nobody answered before.
    ///
    /// # Panics
    /// When the listener has no address.
    pub fn on(listener: TcpListener, script: &[Mood]) -> Self {
        let address = listener.local_addr().expect("it is bound");
        let inner = Arc::new(Mutex::new(Inner {
            international: false,
            connections: 0,
            envelopes: Vec::new(),
            script: script.to_vec(),
            taken: Vec::new(),
        }));
        let server = Self { address, inner };
        let accepting = server.clone();
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = accepting.clone();
                #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
                tokio::spawn(async move { server.talk(stream).await });
            }
        });
        server
    }

    /// How a service reaches it.
    pub fn config(&self) -> SmtpConfig {
        SmtpConfig {
            host: self.address.ip().to_string(),
            port: self.address.port(),
            tls: SmtpTls::None,
            username: None,
            password_file: None,
        }
    }

    /// The messages that were taken, in order.
    pub fn taken(&self) -> Vec<String> {
        self.inner().taken.clone()
    }

    /// `MAIL FROM` and `RCPT TO` of the messages that were taken, in order.
    pub fn envelopes(&self) -> Vec<(String, String)> {
        self.inner().envelopes.clone()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.inner().connections
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mood(&self) -> Mood {
        let script = &mut self.inner().script;
        if script.len() > 1 { script.remove(0) } else { script[0] }
    }

    fn take(&self, envelope: (String, String), message: String) {
        let mut inner = self.inner();
        inner.envelopes.push(envelope);
        inner.taken.push(message);
    }

    async fn talk(&self, stream: TcpStream) -> std::io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"220 mail.test\r\n").await?;
        let (mut mood, mut from, mut to) = (Mood::Accepts, String::new(), String::new());
        let international = {
            let mut inner = self.inner();
            inner.connections += 1;
            inner.international
        };
        while let Some(line) = lines.next_line().await? {
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_uppercase();
            let answer = match verb.as_str() {
                "EHLO" if international => "250-mail.test\r\n250-8BITMIME\r\n250 SMTPUTF8",
                "EHLO" | "HELO" => "250 mail.test",
                "MAIL" => {
                    from = line;
                    "250 ok"
                }
                "RCPT" if !line.is_ascii() && !from.contains(" SMTPUTF8") => "553 in ASCII, please",
                "RCPT" => {
                    mood = self.mood();
                    match mood {
                        Mood::Busy => "451 try again later",
                        Mood::Refuses => {
                            write
                                .write_all(format!("550 no such mailbox: {line}\r\n").as_bytes())
                                .await?;
                            continue;
                        }
                        _ => {
                            to = line;
                            "250 ok"
                        }
                    }
                }
                "DATA" => {
                    write.write_all(b"354 go ahead\r\n").await?;
                    let message = read_message(&mut lines).await?;
                    if message.is_ascii() || from.contains(" BODY=8BITMIME") {
                        self.take((from.clone(), to.clone()), message);
                        match mood {
                            Mood::DropsAfterData => return Ok(()),
                            Mood::Stalls => std::future::pending().await,
                            _ => tokio::time::sleep(mood.dawdles()).await,
                        }
                        "250 taken"
                    } else {
                        "554 in ASCII, please"
                    }
                }
                "QUIT" => {
                    write.write_all(b"221 bye\r\n").await?;
                    return Ok(());
                }
                _ => "250 ok",
            };
            write.write_all(format!("{answer}\r\n").as_bytes()).await?;
        }
        Ok(())
    }
}

/// A message up to the line that ends it.
async fn read_message(lines: &mut Lines<BufReader<OwnedReadHalf>>) -> std::io::Result<String> {
    let mut message = String::new();
    while let Some(line) = lines.next_line().await? {
        if line == "." {
            break;
        }
        message.push_str(&line);
        message.push('\n');
    }
    Ok(message)
}

/// The value of a message's header.
///
/// # Panics
/// When there is none.
pub fn header<'a>(message: &'a str, name: &str) -> &'a str {
    let found = message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {name} in {message}"))
}
