//! Where PostgreSQL's programs are.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::ClusterError;

/// A directory with `initdb` and `postgres`.
#[derive(Clone, Debug)]
pub struct Installation {
    bin: PathBuf,
}

impl Installation {
    /// The newest one below `/usr/lib/postgresql`, then what is on `PATH`, then where `pg_config` says.
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
            .find_map(|bin| Self::at(&bin).ok())
            .or_else(|| Self::at(&configured()?).ok())
    }

    /// The one in this directory.
    pub fn at(bin: &Path) -> Result<Self, ClusterError> {
        if bin.join("initdb").is_file() && bin.join("postgres").is_file() {
            Ok(Self { bin: bin.to_owned() })
        } else {
            Err(ClusterError::NotThere { bin: bin.to_owned() })
        }
    }

    pub fn bin(&self) -> &Path {
        &self.bin
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// Refuses an installation without what the schemas need: several packagers ship the contrib extensions separately, and
    /// their absence would otherwise show as a failed migration.
    pub(crate) fn refuse_without_extension(&self) -> Result<(), ClusterError> {
        let version = self.bin.parent().and_then(Path::file_name).unwrap_or_default();
        let beside = self.bin.join("../share");
        let known = [
            Path::new("/usr/share/postgresql").join(version).join("extension"),
            beside.join("postgresql/extension"),
            beside.join("pgsql/extension"),
            beside.join("extension"),
        ];
        // A layout that is none of these is given the benefit of the doubt.
        let Some(extensions) = known.iter().find(|dir| dir.join("plpgsql.control").is_file())
        else {
            return Ok(());
        };
        if extensions.join("btree_gist.control").is_file() {
            Ok(())
        } else {
            Err(ClusterError::NoExtension { bin: self.bin.clone() })
        }
    }
}

fn configured() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output().ok()?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}
