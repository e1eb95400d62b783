//! A directory in place of a mail server: a file per message.

use std::{fs, io, io::Write, iter, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use futures_util::future::join_all;

use super::{Letterhead, Messenger, NotSent, Outgoing};

/// How many files one thread writes after the other. Threads write beside each other, so that a disk can make several lasting at once.
const RUN: usize = 32;

pub(crate) struct Mailbox {
    desk: Arc<Desk>,
}

struct Desk {
    dir: PathBuf,
    letterhead: Letterhead,
}

impl Mailbox {
    pub(crate) fn new(dir: PathBuf, letterhead: Letterhead) -> Self {
        Self { desk: Arc::new(Desk { dir, letterhead }) }
    }
}

#[async_trait]
impl Messenger for Mailbox {
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<Result<(), NotSent>> {
        let mut messages = messages.into_iter();
        let runs = iter::from_fn(|| {
            let run: Vec<Outgoing> = messages.by_ref().take(RUN).collect();
            (!run.is_empty()).then_some(run)
        });
        let writing = runs.map(|run| {
            let (desk, count) = (Arc::clone(&self.desk), run.len());
            async move {
                let written = tokio::task::spawn_blocking(move || {
                    run.iter().map(|message| desk.put(message)).collect()
                });
                written.await.unwrap_or_else(|_| {
                    vec![Err(NotSent::Later("the mailbox's writer ended".to_owned())); count]
                })
            }
        });
        join_all(writing).await.into_iter().flatten().collect()
    }
}

impl Desk {
    /// Writes the whole file or nothing. Its name is the message's id: a repetition replaces it.
    fn put(&self, message: &Outgoing) -> Result<(), NotSent> {
        let letter = self.letterhead.letter(message)?.formatted();
        let write = || {
            let fresh = self.dir.join(format!(".{}.new", message.id));
            let mut file = match fs::File::create(&fresh) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir_all(&self.dir)?;
                    fs::File::create(&fresh)?
                }
                other => other?,
            };
            file.write_all(&letter)?;
            file.sync_data()?;
            fs::rename(fresh, self.dir.join(format!("{}.eml", message.id)))
        };
        write().map_err(|e| NotSent::Later(format!("the mailbox cannot be written: {}", e.kind())))
    }
}
