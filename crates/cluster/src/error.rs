use std::path::{Path, PathBuf};

/// Why a cluster does not run. Each says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error(
        "PostgreSQL's server is not installed: found no initdb and postgres below /usr/lib/postgresql/*/bin, \
         on PATH, or where pg_config --bindir says. Install it: apt-get install postgresql"
    )]
    NotInstalled,
    #[error(
        "{} holds no initdb and postgres; name PostgreSQL's bin directory, such as /usr/lib/postgresql/15/bin",
        bin.display()
    )]
    NotThere { bin: PathBuf },
    #[error(
        "PostgreSQL in {} lacks the extension btree_gist. Install it: apt-get install postgresql-contrib",
        bin.display()
    )]
    NoExtension { bin: PathBuf },
    #[error("{doing} {}: {source}", path.display())]
    File { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("cannot start {program}: {source}")]
    Spawn { program: String, source: std::io::Error },
    #[error("initdb failed in {}:\n{output}", dir.display())]
    Initdb { dir: PathBuf, output: String },
    #[error("PostgreSQL did not start in {}; the end of its log:\n{log}", dir.display())]
    Start { dir: PathBuf, log: String },
    #[error(
        "root cannot run PostgreSQL in {}: it refuses root, no user postgres or nobody can reach the directory, \
         user namespaces are not permitted, and {} cannot be made: {source}. \
         Put the data where others may go (--data-dir /srv/hospital), or run as another user",
        dir.display(), elsewhere.display()
    )]
    NoIdentity { dir: PathBuf, elsewhere: PathBuf, source: std::io::Error },
    #[error(
        "another process runs PostgreSQL in {} ({}); stop it, or take another data directory",
        dir.display(),
        pid.map_or_else(|| "starting".to_owned(), |pid| format!("postmaster {pid}"))
    )]
    AlreadyRuns { dir: PathBuf, pid: Option<i32> },
    #[error(
        "processes of an earlier PostgreSQL in {} do not end: {pids:?}. End them: kill -9, then start again",
        dir.display()
    )]
    Leftovers { dir: PathBuf, pids: Vec<i32> },
}

pub(crate) fn file(doing: &'static str, path: &Path, source: std::io::Error) -> ClusterError {
    ClusterError::File { doing, path: path.to_owned(), source }
}
