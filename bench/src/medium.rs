//! Where the databases are: in memory, or on a disk.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Tmpfs,
    Disk,
}

#[derive(Clone, Debug)]
pub(crate) struct Medium {
    pub(crate) parent: PathBuf,
}

/// `statfs`'s number of a tmpfs.
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

impl Medium {
    pub(crate) fn new(kind: Kind, disk_dir: Option<&Path>) -> anyhow::Result<Self> {
        let parent = match kind {
            Kind::Tmpfs => PathBuf::from("/dev/shm"),
            Kind::Disk => disk_dir.map_or_else(std::env::temp_dir, ToOwned::to_owned),
        };
        let found = rustix::fs::statfs(&parent)
            .with_context(|| format!("looking at {}", parent.display()))?;
        let in_memory = found.f_type == TMPFS_MAGIC;
        match kind {
            Kind::Tmpfs if !in_memory => bail!("{} is not a tmpfs", parent.display()),
            Kind::Disk if in_memory => {
                bail!("{} is in memory; name a directory on a disk: --disk-dir", parent.display())
            }
            Kind::Tmpfs | Kind::Disk => Ok(Self { parent }),
        }
    }

    /// A directory that goes with its value. Others may enter: PostgreSQL may run as another user.
    pub(crate) fn directory(&self) -> anyhow::Result<tempfile::TempDir> {
        let dir = tempfile::Builder::new().prefix("hospital-bench-").tempdir_in(&self.parent)?;
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
        Ok(dir)
    }
}
