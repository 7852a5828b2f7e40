//! What a downstream's connection is in the middle of, as its requests tell.

use super::commands::{Command, Effect};
use crate::frame::{Kind, Lease};

/// The state that decides which upstream connection a command may run on.
#[derive(Debug, Clone, Default)]
pub(super) struct Session {
    watching: bool,
    multi: bool,
    /// Replies no longer pair with requests, or state changes that a
    /// transaction delays: the connection is the client's alone from here on.
    forever: bool,
}

impl Session {
    /// Whether any connection would do for the next command.
    pub(super) fn is_free(&self) -> bool {
        !(self.watching || self.multi || self.forever)
    }

    /// What the next command asks for. `word` gives its words.
    pub(super) fn next<'a>(
        &mut self,
        command: Option<&Command>,
        word: impl Fn(usize) -> Option<&'a [u8]>,
        words: usize,
    ) -> (Kind, Lease) {
        if self.forever {
            return (Kind::Request, Lease::Session);
        }
        let held = self.multi || self.watching;
        let is = |at: usize, name: &str| {
            word(at).is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()))
        };
        let effect = command.map_or(Effect::Stateless, |command| command.effect);
        let effect = match effect {
            Effect::Hello if words > 1 => Effect::Profile,
            Effect::MayBlock if (1..words).any(|at| is(at, "block")) => Effect::Blocks,
            Effect::Script if is(1, "debug") => Effect::Session,
            Effect::Client => client(&is),
            other => other,
        };
        let lease = match effect {
            Effect::Quit if !held => return (Kind::Local, Lease::Shared),
            Effect::Session => self.stay(),
            Effect::Profile if held => self.stay(),
            Effect::Profile => Lease::Profile,
            Effect::Multi => {
                self.multi = true;
                Lease::Hold
            }
            Effect::Watch => {
                self.watching = true;
                Lease::Hold
            }
            Effect::EndMulti if self.multi => {
                (self.multi, self.watching) = (false, false);
                Lease::Release
            }
            Effect::Unwatch if self.watching && !self.multi => {
                self.watching = false;
                Lease::Release
            }
            _ if held => Lease::Hold,
            Effect::Blocks => Lease::Once,
            _ => Lease::Shared,
        };
        (Kind::Request, lease)
    }

    fn stay(&mut self) -> Lease {
        self.forever = true;
        Lease::Session
    }
}

/// `CLIENT` does many things.
fn client(is: &impl Fn(usize, &str) -> bool) -> Effect {
    let set_up = ["setname", "setinfo", "no-evict", "no-touch"];
    let bound = ["reply", "tracking", "caching", "id", "trackinginfo", "getredir"];
    if set_up.iter().any(|name| is(1, name)) {
        Effect::Profile
    } else if bound.iter().any(|name| is(1, name)) {
        Effect::Session
    } else {
        Effect::Stateless
    }
}

#[cfg(test)]
mod tests {
    use super::super::commands::find;
    use super::*;

    fn leases(script: &[&str]) -> Vec<Lease> {
        let mut session = Session::default();
        script
            .iter()
            .map(|line| {
                let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
                session.next(find(words[0]), |at| words.get(at).copied(), words.len()).1
            })
            .collect()
    }

    #[test]
    fn a_transaction_holds_its_connection_and_gives_it_back() {
        use Lease::{Hold, Release, Shared};
        assert_eq!(
            leases(&["GET a", "MULTI", "GET a", "EXEC", "GET a"]),
            [Shared, Hold, Hold, Release, Shared]
        );
        assert_eq!(
            leases(&["WATCH a", "GET a", "MULTI", "UNWATCH", "DISCARD", "GET a"]),
            [Hold, Hold, Hold, Hold, Release, Shared]
        );
        assert_eq!(leases(&["WATCH a", "EXEC", "UNWATCH", "EXEC"]), [Hold, Hold, Release, Shared]);
    }

    #[test]
    fn what_blocks_travels_alone_and_what_subscribes_stays() {
        use Lease::{Once, Profile, Session, Shared};
        assert_eq!(
            leases(&["BLPOP a 0", "XREAD STREAMS a 0", "XREAD BLOCK 5 STREAMS a 0"]),
            [Once, Shared, Once]
        );
        assert_eq!(
            leases(&["SELECT 1", "HELLO", "HELLO 3", "CLIENT SETNAME x", "CLIENT LIST"]),
            [Profile, Shared, Profile, Profile, Shared]
        );
        assert_eq!(leases(&["SUBSCRIBE a", "GET a"]), [Session, Session]);
        assert_eq!(leases(&["CLIENT REPLY OFF", "GET a"]), [Session, Session]);
        assert_eq!(leases(&["MULTI", "SELECT 1", "EXEC"]), [Lease::Hold, Session, Session]);
    }
}
