//! Who may be chosen: priorities, zones, panic and slow start.

use super::eligible::{Eligible, Entry};

/// One endpoint, as its health and its place in the config are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its share; 0 is never chosen.
    pub weight: u32,
    /// Lower ones come first.
    pub priority: u8,
    /// It is in the zone where we are.
    pub local: bool,
    /// Its health allows it.
    pub usable: bool,
    /// It refused us a moment ago; passed over while there is somebody else.
    pub resting: bool,
    /// How much of its share it gets while it warms up, in percent: 1 to 100.
    pub ramp: u8,
}

impl Default for Member {
    fn default() -> Self {
        Self { weight: 1, priority: 0, local: false, usable: true, resting: false, ramp: 100 }
    }
}

impl Member {
    /// Whether it may be chosen; `heed`: not where it refused lately.
    fn available(&self, heed: bool) -> bool {
        self.usable && !(heed && self.resting)
    }
}

/// How health, priority and zone decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Where all levels together cannot carry the load, and fewer than so many percent of
    /// a level's weight are usable, its health is ignored: better all of them slow than
    /// the rest crushed. 0: never. Default 50.
    pub panic: u8,
    /// The members in our zone get everything while at least so many percent of their
    /// weight are available; below that what they lack spills over. Default 70.
    pub min_local: u8,
    /// Whether zones count: ours is known.
    pub zoned: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { panic: 50, min_local: 70, zoned: false }
    }
}

/// A level whose available weight is so much less than all of it spills over: at 71 %
/// and above it still carries everything. Envoy's overprovisioning factor.
const SPARE: f64 = 1.4;

/// The sum of all weights where shares of several groups have to be mixed.
const MIXED: f64 = (1u64 << 32) as f64;

/// Endpoints of one priority.
#[derive(Clone, Copy)]
struct Level {
    priority: u8,
    /// All its weight; that which health allows; that which may be chosen.
    weight: f64,
    usable: f64,
    available: f64,
    /// Its part of the load, 0 to 1.
    share: f64,
    panics: bool,
}

/// Members of a level that get part of its load by weight.
struct Group {
    level: usize,
    priority: u8,
    panics: bool,
    /// Only those in our zone, only the others, or all.
    local: Option<bool>,
    share: f64,
}

impl Rules {
    /// Writes to `out` who of `members` may be chosen and with what share. Nobody, where
    /// none is usable and nobody may panic. Returns how many are available: usable and
    /// not resting.
    ///
    /// Priorities: a level whose available weight is 71 % or more takes the whole load;
    /// what a weaker one lacks goes to the next. Those who refused lately are passed over
    /// unless nobody else is left.
    pub fn apply(&self, members: &[Member], out: &mut Eligible) -> usize {
        self.fill(members, true, out);
        if out.is_empty() {
            self.fill(members, false, out);
        }
        members.iter().filter(|member| member.available(true)).count()
    }

    fn fill(&self, members: &[Member], heed: bool, out: &mut Eligible) {
        out.clear(members.len());
        let mut levels = levels(members, heed);
        self.share_out(&mut levels);
        let mut groups: Vec<Group> = Vec::new();
        let mut upto = 0.0;
        let loaded = levels.iter().filter(|level| level.share > 0.0);
        for (at, level) in loaded.enumerate() {
            upto += level.share;
            out.push_level(upto);
            let mut add = |local, part| {
                let (priority, panics) = (level.priority, level.panics);
                let share = level.share * part;
                if share > 0.0 {
                    groups.push(Group { level: at, priority, panics, local, share });
                }
            };
            let mine = members.iter().filter(|member| member.priority == level.priority);
            match if level.panics { None } else { self.home(mine, heed) } {
                Some(part) => {
                    add(Some(true), part);
                    add(Some(false), 1.0 - part);
                }
                None => add(None, 1.0),
            }
        }
        let alone = groups.len() == 1;
        for group in &groups {
            let belongs = |member: &Member| {
                member.priority == group.priority
                    && member.weight > 0
                    && group.local.is_none_or(|local| member.local == local)
                    && (member.available(heed) || group.panics && !(heed && member.resting))
            };
            let weight = |member: &Member| u64::from(member.weight) * u64::from(member.ramp.max(1));
            let total: u64 = members.iter().filter(|member| belongs(member)).map(weight).sum();
            for (at, member) in members.iter().enumerate().filter(|(_, member)| belongs(member)) {
                let part = group.share * weight(member) as f64 / total as f64;
                let mixed = (MIXED * part).round().max(1.0) as u64;
                let weight = if alone { weight(member) } else { mixed };
                out.push(Entry { at, weight, level: group.level });
            }
        }
    }

    /// Gives each level its part of the load.
    fn share_out(&self, levels: &mut [Level]) {
        let strength = |level: &Level| (SPARE * level.available / level.weight.max(1.0)).min(1.0);
        let all: f64 = levels.iter().map(strength).sum();
        if all < 1.0 {
            for level in levels.iter_mut() {
                let least = level.weight * f64::from(self.panic) / 100.0;
                level.panics = level.weight > 0.0 && level.usable < least;
            }
        }
        if all <= 0.0 {
            // Nobody's health says anything useful: as if all were well.
            if let Some(first) = levels.iter_mut().find(|level| level.panics) {
                first.share = 1.0;
            }
            return;
        }
        let mut left = 1.0;
        for level in levels {
            let strength = (SPARE * level.available / level.weight.max(1.0)).min(1.0);
            level.share = (strength / all.min(1.0)).min(left);
            left -= level.share;
            // What rounding leaves over is nobody's.
            if left < 1e-9 {
                left = 0.0;
            }
        }
    }

    /// The part of a level's load that stays in our zone; `None` where zones say nothing.
    fn home<'a>(&self, level: impl Iterator<Item = &'a Member>, heed: bool) -> Option<f64> {
        let (mut ours, mut here, mut elsewhere) = (0.0, 0.0, false);
        for member in level.filter(|member| member.weight > 0) {
            let weight = f64::from(member.weight);
            let fits = member.available(heed);
            ours += if member.local { weight } else { 0.0 };
            here += if member.local && fits { weight } else { 0.0 };
            elsewhere |= !member.local && fits;
        }
        if !self.zoned || here == 0.0 || !elsewhere {
            return None;
        }
        let least = ours * f64::from(self.min_local.clamp(1, 100)) / 100.0;
        Some((here / least).min(1.0))
    }
}

/// The levels that `members` stand on, first to last.
fn levels(members: &[Member], heed: bool) -> Vec<Level> {
    let mut levels: Vec<Level> = Vec::new();
    for member in members {
        let (priority, weight) = (member.priority, f64::from(member.weight));
        let at = levels.binary_search_by_key(&priority, |level| level.priority);
        let at = at.unwrap_or_else(|at| {
            let (usable, panics) = (0.0, false);
            let empty = Level { priority, weight: 0.0, usable, available: 0.0, share: 0.0, panics };
            levels.insert(at, empty);
            at
        });
        let Some(level) = levels.get_mut(at) else { continue };
        level.weight += weight;
        level.usable += if member.usable { weight } else { 0.0 };
        level.available += if member.available(heed) { weight } else { 0.0 };
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash_key;

    /// `priority`, `state`, one word a member: `0`, `0x` (unhealthy), `0r` (resting),
    /// `0L` (in our zone), `0h` (ramping at half).
    fn members(words: &str) -> Vec<Member> {
        let member = |word: &str| Member {
            weight: 1,
            priority: word.as_bytes()[0] - b'0',
            local: word.contains('L'),
            usable: !word.contains('x'),
            resting: word.contains('r'),
            ramp: if word.contains('h') { 50 } else { 100 },
        };
        words.split(' ').map(member).collect()
    }

    /// Each member's share in percent.
    fn shares(rules: Rules, words: &str) -> Vec<u32> {
        let members = members(words);
        let mut set = Eligible::default();
        rules.apply(&members, &mut set);
        let share = |at| set.relative(at) * 100.0 / set.len().max(1) as f64;
        (0..members.len()).map(|at| share(at).round() as u32).collect()
    }

    #[track_caller]
    fn check(rules: Rules, cases: &[(&str, &[u32])]) {
        for (words, due) in cases {
            assert_eq!(shares(rules, words), *due, "{words}");
        }
    }

    #[test]
    fn what_a_priority_lacks_goes_to_the_next() {
        check(
            Rules::default(),
            &[
                ("0 0 1 1", &[50, 50, 0, 0]),
                // Three of four are more than 71 %: enough for all.
                ("0 0 0 0x 1", &[33, 33, 33, 0, 0]),
                // Half: 1.4 × 50 % stay.
                ("0 0x 1 1", &[70, 0, 15, 15]),
                ("0x 0x 1 1", &[0, 0, 50, 50]),
                ("0x 1x 2", &[0, 0, 100]),
                // 1.4 × 1/3 here, and 1.4 × 1/3 there, and the rest of the last one.
                ("0 0x 0x 1 1x 1x 2", &[47, 0, 0, 47, 0, 0, 7]),
                // Priorities need no order and no first.
                ("7 3 3", &[0, 50, 50]),
            ],
        );
    }

    #[test]
    fn below_the_panic_threshold_health_is_ignored() {
        let never = Rules { panic: 0, ..Rules::default() };
        check(
            Rules::default(),
            &[
                ("0 0 0x 0x", &[50, 50, 0, 0]),
                ("0 0x 0x 0x", &[25, 25, 25, 25]),
                ("0x", &[100]),
                ("0x 0x", &[50, 50]),
                // Others can carry it all: no panic.
                ("0x 0x 0 1", &[0, 0, 47, 53]),
                ("0x 0x 0x 1 1", &[0, 0, 0, 50, 50]),
                // All levels together cannot: the first is at 25 %, below 50; the second is not.
                ("0 0x 0x 0x 1 1x 1x 1x", &[13, 13, 13, 13, 13, 13, 13, 13]),
                ("0x 0x 1x 1x", &[50, 50, 0, 0]),
            ],
        );
        check(never, &[("0 0x 0x 0x", &[100, 0, 0, 0]), ("0x 0x", &[0, 0]), ("0x 1", &[0, 100])]);
    }

    #[test]
    fn who_refused_is_passed_over_while_there_is_somebody_else() {
        check(
            Rules::default(),
            &[
                ("0r 0 0", &[0, 50, 50]),
                ("0r 0r 0", &[0, 0, 100]),
                ("0r 0r 0r", &[33, 33, 33]),
                ("0r 1", &[0, 100]),
                ("0r 1r", &[100, 0]),
                ("0r 0x", &[100, 0]),
                // In panic too.
                ("0r 0x 0x 0x", &[0, 33, 33, 33]),
                ("0r 0x 0x 0xr", &[0, 50, 50, 0]),
            ],
        );
        let set = &mut Eligible::default();
        assert_eq!(Rules::default().apply(&members("0r 0x 0 1"), set), 2);
        assert_eq!(Rules::default().apply(&members("0x 0r"), set), 0);
    }

    #[test]
    fn our_own_zone_comes_first_and_what_it_lacks_spills_over() {
        let zoned = Rules { zoned: true, ..Rules::default() };
        check(
            zoned,
            &[
                ("0L 0L 0 0", &[50, 50, 0, 0]),
                ("0L 0 0 0", &[100, 0, 0, 0]),
                // Half of ours: 50/70 stay.
                ("0L 0Lx 0 0", &[71, 0, 14, 14]),
                ("0L 0Lr 0 0", &[71, 0, 14, 14]),
                ("0Lx 0Lx 0 0 0", &[0, 0, 33, 33, 33]),
                ("0 0 0", &[33, 33, 33]),
                // Nobody elsewhere: what there is.
                ("0L 0Lx 0x", &[33, 33, 33]),
                // A zone within each priority.
                ("0L 0 1L 1", &[100, 0, 0, 0]),
                ("0Lx 0x 1L 1", &[0, 0, 100, 0]),
            ],
        );
        let strict = Rules { min_local: 100, ..zoned };
        check(strict, &[("0L 0L 0L 0Lx 0", &[25, 25, 25, 0, 25])]);
        check(Rules::default(), &[("0L 0", &[50, 50])]);
    }

    #[test]
    fn who_warms_up_gets_less_and_counts_in_full_for_its_level() {
        check(Rules::default(), &[("0h 0", &[33, 67]), ("0h 0h", &[50, 50]), ("0h 1", &[100, 0])]);
    }

    #[test]
    fn a_key_keeps_its_priority_and_priorities_get_their_shares() {
        let members = members("0 0x 1 1");
        let mut set = Eligible::default();
        Rules::default().apply(&members, &mut set);
        let mut counts = [0usize; 2];
        for n in 0..10_000u32 {
            let hash = hash_key(&n.to_le_bytes());
            counts[set.level_of(hash)] += 1;
        }
        assert!((6_700..7_300).contains(&counts[0]), "{counts:?}");
        assert!(set.on_level(0, 0) && !set.on_level(1, 0) && set.on_level(3, 1));
    }

    #[test]
    fn weights_hold_within_a_level() {
        let mut all = members("0 0 1");
        all[0].weight = 3;
        let mut set = Eligible::default();
        Rules::default().apply(&all, &mut set);
        assert_eq!((set.relative(0), set.relative(1)), (1.5, 0.5));
        all[1].weight = 0;
        Rules::default().apply(&all, &mut set);
        assert!(set.contains(0) && !set.contains(1) && set.len() == 1);
    }

    #[test]
    fn shares_add_up_whatever_falls_ill() {
        // Every combination of six members' states and places: nobody unhealthy is
        // chosen outside panic, and if anybody is usable somebody is chosen.
        for bits in 0..1u32 << 12 {
            for panic in [0, 50] {
                let all: Vec<Member> = (0..6)
                    .map(|at| Member {
                        usable: bits >> at & 1 == 1,
                        resting: bits >> (at + 6) & 1 == 1,
                        priority: (at % 3) as u8,
                        local: at % 2 == 0,
                        ..Member::default()
                    })
                    .collect();
                let mut set = Eligible::default();
                let rules = Rules { panic, zoned: true, ..Rules::default() };
                rules.apply(&all, &mut set);
                let any = all.iter().any(|member| member.usable);
                assert_eq!(set.is_empty(), panic == 0 && !any, "{bits:b}");
                for at in set.members() {
                    assert!(panic > 0 || all[at].usable, "{bits:b}");
                }
                for n in 0..20u64 {
                    let hash = hash_key(&n.to_le_bytes());
                    let level = set.level_of(hash);
                    assert!(set.is_empty() || (0..6).any(|at| set.on_level(at, level)), "{bits:b}");
                }
            }
        }
    }
}
