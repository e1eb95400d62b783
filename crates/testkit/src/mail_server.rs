//! A mail server that behaves as it is told to.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use hospital_kit::config::{SmtpConfig, SmtpTls};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// What the server does with one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Accepts,
    /// 451: try again later.
    Busy,
    /// 550: there is no such mailbox.
    Refuses,
    /// Takes the message, and drops the line instead of saying so.
    DropsAfterData,
}

#[derive(Clone)]
pub(crate) struct MailServer {
    pub(crate) address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    /// For the messages to come, in order; the last stays.
    script: Vec<Mood>,
    /// All messages that were taken, acknowledged or not.
    taken: Vec<String>,
}

impl MailServer {
    pub(crate) async fn start(script: &[Mood]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Mutex::new(Inner { script: script.to_vec(), taken: Vec::new() }));
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

    pub(crate) fn config(&self) -> SmtpConfig {
        SmtpConfig {
            host: self.address.ip().to_string(),
            port: self.address.port(),
            tls: SmtpTls::None,
            username: None,
            password_file: None,
        }
    }

    pub(crate) fn taken(&self) -> Vec<String> {
        self.inner.lock().unwrap().taken.clone()
    }

    fn mood(&self) -> Mood {
        let script = &mut self.inner.lock().unwrap().script;
        if script.len() > 1 { script.remove(0) } else { script[0] }
    }

    async fn talk(&self, stream: TcpStream) -> std::io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"220 mail.test\r\n").await?;
        let mut mood = Mood::Accepts;
        while let Some(line) = lines.next_line().await? {
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_uppercase();
            let answer = match verb.as_str() {
                "EHLO" | "HELO" => "250 mail.test",
                "RCPT" => {
                    mood = self.mood();
                    match mood {
                        Mood::Busy => "451 try again later",
                        Mood::Refuses => "550 no such mailbox",
                        Mood::Accepts | Mood::DropsAfterData => "250 ok",
                    }
                }
                "DATA" => {
                    write.write_all(b"354 go ahead\r\n").await?;
                    let mut message = String::new();
                    while let Some(line) = lines.next_line().await? {
                        if line == "." {
                            break;
                        }
                        message.push_str(&line);
                        message.push('\n');
                    }
                    self.inner.lock().unwrap().taken.push(message);
                    if mood == Mood::DropsAfterData {
                        return Ok(());
                    }
                    "250 taken"
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

/// The value of a header.
pub(crate) fn header<'a>(message: &'a str, name: &str) -> &'a str {
    let found = message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {name} in {message}"))
}
