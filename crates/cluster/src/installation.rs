//! Where PostgreSQL's programs are.

use std::path::{Path, PathBuf};

/// A directory with `initdb` and `postgres`.
#[derive(Clone, Debug)]
pub struct Installation {
    bin: PathBuf,
}

impl Installation {
    /// The newest one below `/usr/lib/postgresql`, then what is on `PATH`.
    pub fn find() -> Option<Self> {
        let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
            })
            .collect();
        versions.sort();
        #[expect(
            clippy::disallowed_methods,
            reason = "PATH is where programs are, not a setting of ours"
        )]
        let path = std::env::var("PATH").unwrap_or_default();
        let debian = versions.into_iter().rev().map(|(_, bin)| bin);
        debian
            .chain(path.split(':').map(PathBuf::from))
            .find(|bin| bin.join("initdb").is_file() && bin.join("postgres").is_file())
            .map(|bin| Self { bin })
    }

    pub fn bin(&self) -> &Path {
        &self.bin
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}
