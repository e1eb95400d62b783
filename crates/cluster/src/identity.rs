//! As whom PostgreSQL runs.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{ClusterError, file};

/// As whom PostgreSQL runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// As ourselves: we are not root.
    Own,
    /// As another user, who owns the directory.
    User { uid: u32, gid: u32 },
    /// As root's files' owner, under another number: a user namespace.
    Namespace,
}

impl Identity {
    pub(crate) fn choose(dir: &Path) -> Result<Self, ClusterError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Own);
        }
        let user = user("postgres").or_else(|| user("nobody"));
        if let Some((uid, gid)) = user.filter(|(uid, gid)| reaches(dir, *uid, *gid)) {
            return Ok(Self::User { uid, gid });
        }
        let permitted = Self::Namespace
            .command(&PathBuf::from("true"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if permitted {
            Ok(Self::Namespace)
        } else {
            Err(ClusterError::NoIdentity { dir: dir.to_owned() })
        }
    }

    pub(crate) fn command(self, program: &Path) -> Command {
        match self {
            Self::Own => Command::new(program),
            Self::User { uid, gid } => {
                let mut command = Command::new(program);
                command.uid(uid).gid(gid);
                command
            }
            Self::Namespace => {
                let mut command = Command::new("unshare");
                command.args(["--user", "--map-user=1000", "--map-group=1000"]).arg(program);
                command
            }
        }
    }

    /// Gives everything in the directory to whom PostgreSQL runs as.
    pub(crate) fn own(self, dir: &Path) -> Result<(), ClusterError> {
        let (uid, gid) = match self {
            Self::Own => return Ok(()),
            Self::User { uid, gid } => (uid, gid),
            Self::Namespace => (0, 0),
        };
        give(dir, uid, gid)
    }
}

fn give(path: &Path, uid: u32, gid: u32) -> Result<(), ClusterError> {
    let metadata = fs::symlink_metadata(path).map_err(|e| file("cannot look at", path, e))?;
    if (metadata.uid(), metadata.gid()) != (uid, gid) {
        chown(path, Some(uid), Some(gid)).map_err(|e| file("cannot give away", path, e))?;
    } else if path.ends_with("data") {
        // PostgreSQL's own files are as it left them.
        return Ok(());
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(|e| file("cannot read", path, e))?.flatten() {
            give(&entry.path(), uid, gid)?;
        }
    }
    Ok(())
}

fn user(name: &str) -> Option<(u32, u32)> {
    let text = fs::read_to_string("/etc/passwd").ok()?;
    let fields: Vec<&str> =
        text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|f| f[0] == name)?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

/// Whether a user may pass through every directory above this one.
fn reaches(dir: &Path, uid: u32, gid: u32) -> bool {
    dir.ancestors().skip(1).all(|above| {
        fs::metadata(above).is_ok_and(|m| {
            let mode = m.permissions().mode();
            let bit = if m.uid() == uid {
                0o100
            } else if m.gid() == gid {
                0o010
            } else {
                0o001
            };
            mode & bit != 0
        })
    })
}
