//! A mail server that remembers what it was given, and that can take a message and drop the line.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::spawn;

/// How often each message came, by its `Message-ID`.
type Seen = Arc<Mutex<HashMap<String, u32>>>;

pub struct MailServer {
    port: u16,
    seen: Seen,
    drops: watch::Sender<bool>,
    task: tokio::task::AbortHandle,
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MailServer {
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(("127.0.0.1", 0)).await.context("opening the mail server's port")?;
        let port = listener.local_addr()?.port();
        let (seen, (drops, dropping)) = (Seen::default(), watch::channel(false));
        let memory = Arc::clone(&seen);
        let task = spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let talk = talk(stream, Arc::clone(&memory), dropping.clone());
                        spawn(async move {
                            // A client that goes away is the client's affair.
                            let _ = talk.await;
                        });
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        Ok(Self { port, seen, drops, task })
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether it takes messages and then drops the line instead of saying so.
    pub fn drop_the_line(&self, drops: bool) {
        self.drops.send_replace(drops);
    }

    /// How often a message came.
    pub fn times(&self, message_id: &str) -> u32 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(message_id).copied().unwrap_or(0)
    }

    /// How many messages came, and how many of them more than once.
    pub fn counts(&self) -> (usize, usize) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.len(), seen.values().filter(|times| **times > 1).count())
    }
}

async fn talk(stream: TcpStream, seen: Seen, drops: watch::Receiver<bool>) -> std::io::Result<()> {
    let (from, mut to) = stream.into_split();
    let mut lines = BufReader::new(from).lines();
    to.write_all(b"220 mail.example\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let word = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let said: &[u8] = match word.as_str() {
            "EHLO" => b"250-mail.example\r\n250 8BITMIME\r\n",
            "DATA" => {
                to.write_all(b"354 go on\r\n").await?;
                while let Some(line) = lines.next_line().await? {
                    if line == "." {
                        break;
                    }
                    if let Some(id) = line.strip_prefix("Message-ID: ") {
                        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                        *seen.entry(id.trim().to_owned()).or_insert(0) += 1;
                    }
                }
                if *drops.borrow() {
                    return Ok(());
                }
                b"250 taken\r\n"
            }
            "QUIT" => {
                to.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => b"250 well\r\n",
        };
        to.write_all(said).await?;
    }
    Ok(())
}
