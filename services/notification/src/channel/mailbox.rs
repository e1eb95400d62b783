//! A directory in place of a mail server: an mbox file (RFC 4155) for each day, which mail programs open as a folder.

use std::{
    fs::{DirBuilder, File, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use hospital_kit::clock::Clock;
use jiff::{Timestamp, tz::TimeZone};

use super::{Letterhead, Messenger, NotSent, Outgoing};

pub(crate) struct Mailbox {
    desk: Arc<Desk>,
}

struct Desk {
    dir: PathBuf,
    clock: Clock,
    letterhead: Letterhead,
}

impl Mailbox {
    pub(crate) fn new(dir: PathBuf, clock: Clock, letterhead: Letterhead) -> Self {
        // Whoever made it decides who reads it; the files in it are for the service alone in any
        // case.
        if std::fs::metadata(&dir).is_ok_and(|dir| dir.permissions().mode() & OTHERS != 0) {
            tracing::warn!("others than the service can look into notification.mailbox_dir");
        }
        Self { desk: Arc::new(Desk { dir, clock, letterhead }) }
    }
}

#[async_trait]
impl Messenger for Mailbox {
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<Result<(), NotSent>> {
        let (desk, count) = (Arc::clone(&self.desk), messages.len());
        let written = tokio::task::spawn_blocking(move || desk.put(&messages));
        written.await.unwrap_or_else(|_| {
            vec![Err(NotSent::Later("the mailbox's writer ended".to_owned())); count]
        })
    }
}

impl Desk {
    /// Writes all of them or none, and has them on the disk before it says so: one flush, however many they are.
    fn put(&self, messages: &[Outgoing]) -> Vec<Result<(), NotSent>> {
        let now = self.clock.now();
        let mut folder = Vec::new();
        let mut outcomes: Vec<Result<(), NotSent>> = messages
            .iter()
            .map(|message| {
                let letter = self.letterhead.letter(message)?.formatted();
                append(&mut folder, now, &letter);
                Ok(())
            })
            .collect();
        let file = self.dir.join(now.strftime("%Y-%m-%d.mbox").to_string());
        if let Err(e) = write(&self.dir, &file, &folder) {
            let failed = NotSent::Later(format!("the mailbox cannot be written: {}", e.kind()));
            for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
                *outcome = Err(failed.clone());
            }
        }
        outcomes
    }
}

/// A letter as mbox has it: a line that begins it, lines that end as on this system, and none in it that looks like a beginning (the
/// quoting called mboxrd, which can be undone).
fn append(folder: &mut Vec<u8>, now: Timestamp, letter: &[u8]) {
    let date = now.to_zoned(TimeZone::UTC).strftime("%a %b %e %H:%M:%S %Y");
    folder.extend_from_slice(format!("From MAILER-DAEMON {date}\n").as_bytes());
    for line in letter.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let quoted = line.iter().position(|byte| *byte != b'>').unwrap_or(0);
        if line[quoted..].starts_with(b"From ") {
            folder.push(b'>');
        }
        folder.extend_from_slice(line);
        folder.push(b'\n');
    }
    // The empty line that ends it is what follows its last line break; one that had none gets it here.
    if !letter.ends_with(b"\n") {
        folder.push(b'\n');
    }
}

/// The permissions of those who are not the owner.
const OTHERS: u32 = 0o077;

fn write(dir: &Path, path: &Path, folder: &[u8]) -> io::Result<()> {
    if folder.is_empty() {
        return Ok(());
    }
    let open = || File::options().create(true).append(true).mode(0o600).open(path);
    let mut file = match open() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            open()?
        }
        other => other?,
    };
    let found = file.metadata()?;
    if found.is_file() && found.permissions().mode() & OTHERS != 0 {
        // A version before, or somebody else, made it for all to read.
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    // Another replica may share the directory. The lock ends with the file.
    file.lock()?;
    let before = file.metadata()?.len();
    let written = file.write_all(folder).and_then(|()| file.sync_data());
    if written.is_err() {
        // Half a letter would spoil the next. If even this fails, the error is the one that is told.
        let _ = file.set_len(before);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_looks_like_a_beginning_is_quoted_and_letters_are_apart() {
        let mut folder = Vec::new();
        let now = "2026-11-05T07:08:09Z".parse().unwrap();
        append(&mut folder, now, b"Subject: a\r\n\r\nFrom here\r\n>From there\r\nFromage\r\n");
        append(&mut folder, now, b"Subject: b\r\n\r\n> no\r\nend");
        assert_eq!(
            String::from_utf8(folder).unwrap(),
            "From MAILER-DAEMON Thu Nov  5 07:08:09 2026\nSubject: a\n\n>From here\n>>From there\nFromage\n\n\
             From MAILER-DAEMON Thu Nov  5 07:08:09 2026\nSubject: b\n\n> no\nend\n\n"
        );
    }

    #[test]
    fn letters_are_for_their_owner_alone_whatever_the_umask() {
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("mail").join("box");
        let (today, yesterday) = (dir.join("today.mbox"), dir.join("yesterday.mbox"));
        // Whatever else this process makes meanwhile names its permissions, or is made under a
        // directory that does.
        let umask = rustix::process::umask(rustix::fs::Mode::empty());
        let written = write(&dir, &today, b"From a\n");
        rustix::process::umask(umask);
        written.unwrap();
        assert_eq!((mode(&dir), mode(&today)), (0o700, 0o600));

        std::fs::write(&yesterday, "From b\n").unwrap();
        std::fs::set_permissions(&yesterday, Permissions::from_mode(0o644)).unwrap();
        write(&dir, &yesterday, b"From c\n").unwrap();
        assert_eq!(mode(&yesterday), 0o600, "made by a version before");
        assert_eq!(std::fs::read_to_string(&yesterday).unwrap(), "From b\nFrom c\n");
    }

    #[test]
    fn a_disk_that_is_full_is_an_error() {
        let full = Path::new("/dev/full");
        assert_eq!(
            write(Path::new("/dev"), full, b"lost").unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
    }
}
