//! Whether a file has changed, by what the system says of it: cheap enough to ask often, and
//! true of files that are written in place, replaced by a rename, or behind a link that moved.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a watched file is looked at.
pub(crate) const EVERY: Duration = Duration::from_millis(500);

/// What a file looked like. Two of the same file differ where it was written in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    size: u64,
    seconds: i64,
    nanos: i64,
}

/// A file, and what it looked like.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    path: PathBuf,
    seen: Option<Look>,
}

impl Watched {
    /// As it is now.
    pub(crate) fn new(path: PathBuf) -> Self {
        let seen = look(&path);
        Self { path, seen }
    }

    /// Whether it is there and not as it was when this was last asked.
    pub(crate) fn changed(&mut self) -> bool {
        let now = look(&self.path);
        // One that is gone is perhaps about to be replaced.
        let changed = now.is_some() && now != self.seen;
        if changed {
            self.seen = now;
        }
        changed
    }
}

fn look(path: &Path) -> Option<Look> {
    let known = std::fs::metadata(path).ok()?;
    Some(Look {
        device: known.dev(),
        inode: known.ino(),
        size: known.size(),
        seconds: known.mtime(),
        nanos: known.mtime_nsec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_replaced_or_moved_behind_a_link_is_seen_once() {
        let folder = std::env::temp_dir().join(format!("polyport-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (one, two, link) = (folder.join("one"), folder.join("two"), folder.join("link"));
        std::fs::write(&one, "1").expect("written");
        let mut watched = Watched::new(one.clone());
        assert!(!watched.changed());
        std::fs::write(&one, "22").expect("written");
        assert!(watched.changed() && !watched.changed());
        std::fs::write(&two, "22").expect("written");
        std::fs::rename(&two, &one).expect("renamed");
        assert!(watched.changed() && !watched.changed());
        std::fs::remove_file(&one).expect("removed");
        assert!(!watched.changed());
        std::fs::write(&one, "333").expect("written");
        assert!(watched.changed());

        std::fs::write(&two, "4").expect("written");
        std::os::unix::fs::symlink(&one, &link).expect("a link");
        let mut watched = Watched::new(link.clone());
        std::fs::remove_file(&link).expect("removed");
        std::os::unix::fs::symlink(&two, &link).expect("a link");
        assert!(watched.changed() && !watched.changed());
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
