//! What the process may do: as many descriptors as the system gives it, and no more rights
//! than it needs once its ports are bound and its files are open.

use std::fmt;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Group, Uid, User};

/// Descriptors of each worker that carry no connection: its poll and its wakers.
const PER_WORKER: usize = 5;

/// Who the process becomes, top-level keys `user` and `group`: names or numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// `None`: it stays who it is.
    pub user: Option<String>,
    /// `None`: the user's own.
    pub group: Option<String>,
}

/// Why privileges could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The system knows no such user or group.
    #[error("there is no {what} `{name}` on this system")]
    Unknown {
        /// User or group.
        what: &'static str,
        /// As the config names it.
        name: String,
    },
    /// The system does not let it.
    #[error("cannot become {who}: {source}; only root can, so start as root or leave it out")]
    Refused {
        /// Who it was to become.
        who: String,
        /// What the system says.
        source: nix::Error,
    },
    /// The way back is still open.
    #[error("privileges are not given up: the process could become root again")]
    Kept,
}

impl Identity {
    /// Whether the process is to become somebody else at all.
    pub fn is_some(&self) -> bool {
        self.user.is_some() || self.group.is_some()
    }

    /// Becomes that user and group, for all threads of the process, for good. Threads that
    /// are started later can gain no privileges by what they execute either.
    ///
    /// # Errors
    /// Where there is no such user, or the process may not change who it is.
    pub fn assume(&self) -> Result<(), PrivilegeError> {
        if !self.is_some() {
            return Ok(());
        }
        let user = self.user.as_deref().map(find_user).transpose()?;
        let group = self.group.as_deref().map(find_group).transpose()?;
        let own_group = user.as_ref().map(|user| user.group);
        let gid = group.or(own_group).unwrap_or_else(Gid::current);
        let uid = user.as_ref().map_or_else(Uid::current, |user| user.id);
        let refused = |source| PrivilegeError::Refused { who: self.to_string(), source };
        if (Uid::effective(), Uid::current()) == (uid, uid)
            && (Gid::effective(), Gid::current()) == (gid, gid)
            && !uid.is_root()
        {
            // It is that one already, and had no rights to give up.
            return nix::sys::prctl::set_no_new_privs().map_err(refused);
        }
        match &user {
            // Its other groups are for what it needs to read.
            Some(User_ { name: Some(name), .. }) => nix::unistd::initgroups(name, gid),
            _ => nix::unistd::setgroups(&[gid]),
        }
        .map_err(refused)?;
        nix::unistd::setresgid(gid, gid, gid).map_err(refused)?;
        nix::unistd::setresuid(uid, uid, uid).map_err(refused)?;
        nix::sys::prctl::set_no_new_privs().map_err(refused)?;
        let root = Uid::from_raw(0);
        if !uid.is_root() && nix::unistd::setresuid(root, root, root).is_ok() {
            return Err(PrivilegeError::Kept);
        }
        tracing::info!(user = %uid, group = %gid, "privileges given up");
        Ok(())
    }
}

impl Identity {
    /// The numbers of the user and the group that files for it are given to; `None`: they
    /// stay as they are.
    ///
    /// # Errors
    /// Where there is no such user or group.
    pub fn owner(&self) -> Result<(Option<u32>, Option<u32>), PrivilegeError> {
        let user = self.user.as_deref().map(find_user).transpose()?;
        let group = self.group.as_deref().map(find_group).transpose()?;
        let own_group = user.as_ref().map(|user| user.group);
        Ok((user.map(|user| user.id.as_raw()), group.or(own_group).map(Gid::as_raw)))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.user, &self.group) {
            (Some(user), Some(group)) => write!(f, "user `{user}` of group `{group}`"),
            (Some(user), None) => write!(f, "user `{user}`"),
            (None, Some(group)) => write!(f, "group `{group}`"),
            (None, None) => f.write_str("nobody else"),
        }
    }
}

struct User_ {
    id: Uid,
    group: Gid,
    /// For its other groups.
    name: Option<std::ffi::CString>,
}

fn find_user(name: &str) -> Result<User_, PrivilegeError> {
    let number = name.parse().ok().map(Uid::from_raw);
    let found = match number {
        Some(id) => User::from_uid(id),
        None => User::from_name(name),
    };
    match (found.ok().flatten(), number) {
        (Some(user), _) => Ok(User_ {
            id: user.uid,
            group: user.gid,
            name: std::ffi::CString::new(user.name).ok(),
        }),
        // A number needs no entry anywhere, as in containers: its group has the same.
        (None, Some(id)) => Ok(User_ { id, group: Gid::from_raw(id.as_raw()), name: None }),
        (None, None) => Err(PrivilegeError::Unknown { what: "user", name: name.to_owned() }),
    }
}

fn find_group(name: &str) -> Result<Gid, PrivilegeError> {
    if let Ok(id) = name.parse() {
        return Ok(Gid::from_raw(id));
    }
    let found = Group::from_name(name).ok().flatten().map(|group| group.gid);
    found.ok_or_else(|| PrivilegeError::Unknown { what: "group", name: name.to_owned() })
}

/// Raises the bound on descriptors as far as it goes; how many there may be.
pub fn raise_descriptors() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let raised = soft >= hard || setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    usize::try_from(if raised { hard } else { soft }).unwrap_or(usize::MAX)
}

/// How many of `limit` descriptors are left for connections, in a process of so many
/// workers that has opened its listeners and files: less those in use, the workers' own,
/// so many `others` that will be wanted now and then, and a reserve for what else has to
/// be opened (files that are read again, the admin's clients).
pub fn spare_descriptors(limit: usize, workers: usize, others: usize) -> usize {
    let used = std::fs::read_dir("/proc/self/fd").map_or(32, Iterator::count);
    left(limit, used, workers, others)
}

fn left(limit: usize, used: usize, workers: usize, others: usize) -> usize {
    let reserve = (limit / 16).clamp(8, 256);
    let taken = used + workers * PER_WORKER + others.min(limit / 8) + reserve;
    limit.saturating_sub(taken).max(limit / 8).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_there_is_not_cannot_be_assumed() {
        let nobody = Identity { user: Some("no such user".into()), group: None };
        let said = nobody.assume().expect_err("no such user").to_string();
        assert_eq!(said, "there is no user `no such user` on this system");
        let nobody = Identity { user: None, group: Some("no such group".into()) };
        assert!(matches!(nobody.assume(), Err(PrivilegeError::Unknown { what: "group", .. })));
        assert!(Identity::default().assume().is_ok());
    }

    #[test]
    fn numbers_need_no_name() {
        let user = find_user("4000000001").expect("any number");
        assert_eq!((user.id.as_raw(), user.group.as_raw()), (4_000_000_001, 4_000_000_001));
        assert_eq!(find_user("root").expect("root").id.as_raw(), 0);
    }

    #[test]
    fn a_reserve_is_left() {
        assert_eq!(left(64, 12, 1, 0), 64 - 12 - 5 - 8);
        assert_eq!(left(1_048_576, 20, 4, 10), 1_048_576 - 20 - 20 - 10 - 256);
        // So few that there is nothing to share out: some connections there must be.
        assert_eq!(left(16, 20, 4, 0), 2);
    }
}
