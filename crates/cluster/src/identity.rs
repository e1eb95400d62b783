//! As whom PostgreSQL runs, and where its data can then be.

use std::{
    fs,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown, symlink},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    ClusterError,
    error::file,
    home::{Home, random},
};

/// As whom PostgreSQL runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// As ourselves: we are not root.
    Own,
    /// As another user, who owns the data.
    User { uid: u32, gid: u32 },
    /// As the owner of root's files, under another user's numbers: a user namespace. PostgreSQL wants a user that the machine knows.
    Namespace { uid: u32, gid: u32 },
}

impl Identity {
    /// Chooses as whom to run below this directory, and where the data goes: into the directory itself, unless nobody but root
    /// can reach it and user namespaces are not permitted. Then it goes below `/var/lib`, and a link leads there.
    pub(crate) fn choose(dir: &Path) -> Result<(Self, Home), ClusterError> {
        Self::choose_from(dir, Self::namespace().reaches(dir))
    }

    fn choose_from(dir: &Path, namespaces: bool) -> Result<(Self, Home), ClusterError> {
        if !rustix::process::geteuid().is_root() {
            return Ok((Self::Own, Home::within(dir)));
        }
        let user = user("postgres").or_else(|| user("nobody"));
        if let Some(elsewhere) = Home::linked(dir) {
            let owner = fs::metadata(elsewhere.base())
                .map_err(|e| file("cannot find the data that was put in", elsewhere.base(), e))?;
            return Ok((Self::User { uid: owner.uid(), gid: owner.gid() }, elsewhere));
        }
        match user {
            Some(user) if user.reaches(dir) => Ok((user, Home::within(dir))),
            _ if namespaces => Ok((Self::namespace(), Home::within(dir))),
            _ => {
                let nobody = Self::User { uid: 65534, gid: 65534 };
                let user = user.unwrap_or(nobody);
                Ok((user, user.settle_elsewhere(dir, Path::new("/var/lib"))?))
            }
        }
    }

    fn namespace() -> Self {
        match user("postgres").or_else(|| user("nobody")) {
            Some(Self::User { uid, gid }) => Self::Namespace { uid, gid },
            _ => Self::Namespace { uid: 65534, gid: 65534 },
        }
    }

    fn settle_elsewhere(self, dir: &Path, below: &Path) -> Result<Home, ClusterError> {
        let elsewhere = below.join(format!("hospital-{}", random(6)?));
        let made = fs::DirBuilder::new()
            .mode(0o700)
            .create(&elsewhere)
            .and_then(|()| symlink(&elsewhere, dir.join(Home::LINK)));
        made.map_err(|source| ClusterError::NoIdentity {
            dir: dir.to_owned(),
            elsewhere: elsewhere.clone(),
            source,
        })?;
        self.own(&elsewhere)?;
        Ok(Home::elsewhere(dir, elsewhere))
    }

    pub(crate) fn command(self, program: &Path) -> Command {
        let mut command = match self {
            Self::Own => Command::new(program),
            Self::User { uid, gid } => {
                let mut command = Command::new(program);
                command.uid(uid).gid(gid);
                command
            }
            Self::Namespace { uid, gid } => {
                let mut command = Command::new("unshare");
                command.arg("--user");
                command.arg(format!("--map-user={uid}")).arg(format!("--map-group={gid}"));
                command.arg(program);
                command
            }
        };
        // Ours may be one that the other user cannot enter.
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    /// Whether it can enter a directory. Asked by trying: mode bits are not all there is (access control lists, mounts, and in a
    /// namespace root has lost its privilege over the directories of others).
    fn reaches(self, dir: &Path) -> bool {
        self.command(Path::new("sh"))
            .args(["-c", r#"cd "$1""#, "sh"])
            .arg(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// Gives it a file, or a directory with all that is in it. Left alone when the top is already its own: PostgreSQL's files are
    /// as PostgreSQL left them.
    pub(crate) fn own(self, path: &Path) -> Result<(), ClusterError> {
        let (uid, gid) = match self {
            Self::Own => return Ok(()),
            Self::User { uid, gid } => (uid, gid),
            Self::Namespace { .. } => (0, 0),
        };
        let metadata = fs::symlink_metadata(path).map_err(|e| file("cannot look at", path, e))?;
        if (metadata.uid(), metadata.gid()) == (uid, gid) { Ok(()) } else { give(path, uid, gid) }
    }
}

/// The top goes last, so that one that was interrupted is done again.
fn give(path: &Path, uid: u32, gid: u32) -> Result<(), ClusterError> {
    let metadata = fs::symlink_metadata(path).map_err(|e| file("cannot look at", path, e))?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(|e| file("cannot read", path, e))? {
            give(&entry.map_err(|e| file("cannot read", path, e))?.path(), uid, gid)?;
        }
    }
    lchown(path, Some(uid), Some(gid)).map_err(|e| file("cannot give away", path, e))
}

/// Makes a directory that nobody else can enter, but as whom PostgreSQL runs where we are root: that user's group may pass through it, and see
/// nothing of what is in it. One that is there is left as it is.
///
/// # Errors
/// When it cannot be made.
pub fn make_private(dir: &Path) -> Result<(), ClusterError> {
    if dir.is_dir() {
        return Ok(());
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| file("cannot make", dir, e))?;
    let passing = user("postgres").filter(|_| rustix::process::geteuid().is_root());
    if let Some(Identity::User { gid, .. }) = passing {
        lchown(dir, None, Some(gid))
            .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o710)))
            .map_err(|e| file("cannot let PostgreSQL through", dir, e))?;
    }
    Ok(())
}

fn user(name: &str) -> Option<Identity> {
    let text = fs::read_to_string("/etc/passwd").ok()?;
    let fields: Vec<&str> =
        text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|f| f[0] == name)?;
    Some(Identity::User { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? })
}
