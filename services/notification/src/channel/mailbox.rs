//! A directory in place of a mail server: a file per message.

use std::{fs, io::Write, path::PathBuf};

use async_trait::async_trait;

use super::{Letterhead, Messenger, NotSent, Outgoing};

pub(crate) struct Mailbox {
    dir: PathBuf,
    letterhead: Letterhead,
}

impl Mailbox {
    pub(crate) const fn new(dir: PathBuf, letterhead: Letterhead) -> Self {
        Self { dir, letterhead }
    }
}

#[async_trait]
impl Messenger for Mailbox {
    /// Writes the whole file or nothing. Its name is the message's id: a repetition replaces it.
    async fn send(&self, message: &Outgoing) -> Result<(), NotSent> {
        let letter = self.letterhead.letter(message)?.formatted();
        let (dir, name) = (self.dir.clone(), message.id.to_string());
        let written = tokio::task::spawn_blocking(move || {
            fs::create_dir_all(&dir)?;
            let fresh = dir.join(format!(".{name}.new"));
            let mut file = fs::File::create(&fresh)?;
            file.write_all(&letter)?;
            file.sync_data()?;
            fs::rename(fresh, dir.join(format!("{name}.eml")))
        })
        .await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => {
                Err(NotSent::Later(format!("the mailbox cannot be written: {}", e.kind())))
            }
            Err(_) => Err(NotSent::Later("the mailbox's writer ended".to_owned())),
        }
    }
}
