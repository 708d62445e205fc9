//! Draws steps from a seed: a pure function, so that any part of a plan can be left out and the
//! rest still means the same.
//!
//! Few names and few slots, so that operations meet: a name drawn twice is a file, a directory, a
//! symlink or nothing by then, and every errno comes up.

use super::{
    Access, Allocation, Exchange, Operation, Step,
    belief::{Belief, SLOTS},
    dice::Dice,
};

/// Relative, without "..", so that no symlink leaves the tree.
const TARGETS: [&str; 6] = ["a", "b", "c/a", ".", "missing", "a/b/c"];
const XATTRS: [&str; 3] = ["user.a", "user.b", "trusted.c"];

/// Trees are compared at every so many steps: often enough to find silent damage near its cause,
/// seldom enough to leave time for steps.
const TREE_INTERVAL: usize = 50;

/// What a plan is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Focus {
    /// Roots that take turns.
    pub actors: usize,
    /// Offsets and lengths cluster around multiples of this.
    pub block_bytes: u64,
    /// Whether shared maps and named pipes are used, which join processes of one host, and so
    /// promise nothing between mounts.
    pub local: bool,
}

/// A plan of `count` steps.
pub fn generate(seed: u64, count: usize, focus: Focus) -> Vec<Step> {
    let mut generator = Generator {
        dice: Dice::new(seed),
        belief: Belief::default(),
        focus,
    };
    let mut steps: Vec<_> = (1..=count)
        .map(|number| match number % TREE_INTERVAL {
            0 => Step {
                actor: 0,
                operation: Operation::CompareTrees,
            },
            _ => generator.step(),
        })
        .collect();
    steps.extend((0..SLOTS).map(|slot| Step {
        actor: 0,
        operation: Operation::Close { slot },
    }));
    steps
}

struct Generator {
    dice: Dice,
    belief: Belief,
    focus: Focus,
}

#[derive(Clone, Copy)]
enum Family {
    Slot,
    File,
    Name,
    Attribute,
}

impl Generator {
    fn step(&mut self) -> Step {
        let actor = self.dice.below(self.focus.actors as u64) as usize;
        let families = [
            (40, Family::Slot),
            (20, Family::File),
            (28, Family::Name),
            (12, Family::Attribute),
        ];
        let operation = match self.dice.weighted(&families) {
            Family::Slot => self.slot_operation(),
            Family::File => self.file_operation(),
            Family::Name => self.name_operation(),
            Family::Attribute => self.attribute_operation(),
        };
        Step { actor, operation }
    }

    fn slot_operation(&mut self) -> Operation {
        let slot = self.belief.slot(&mut self.dice);
        let (length, offset, stamp) = (self.length(), self.offset(), self.stamp());
        match self.dice.below(115) {
            0..15 => self.open(),
            15..20 => {
                self.belief.closed(slot);
                Operation::Close { slot }
            }
            20..32 => Operation::Read { slot, length },
            32..48 => Operation::Write {
                slot,
                length,
                stamp,
            },
            48..62 => Operation::ReadAt {
                slot,
                offset,
                length,
            },
            62..81 => Operation::WriteAt {
                slot,
                offset,
                length,
                stamp,
            },
            81..89 => Operation::SetLength {
                slot,
                length: offset,
            },
            89..94 => Operation::Sync { slot },
            94..102 => Operation::Allocate {
                slot,
                offset,
                length: length as u64,
                allocation: *self.dice.pick(&[
                    Allocation::Grow,
                    Allocation::KeepSize,
                    Allocation::PunchHole,
                    Allocation::PunchHole,
                ]),
            },
            102..109 => {
                let target = self.offset();
                Operation::Copy {
                    slot,
                    offset,
                    to: self.belief.slot(&mut self.dice),
                    // Every other one lies alike in its blocks.
                    target: match self.dice.chance(50) {
                        true => {
                            target - target % self.focus.block_bytes
                                + offset % self.focus.block_bytes
                        }
                        false => target,
                    },
                    length,
                }
            }
            _ => Operation::SlotStatus { slot },
        }
    }

    fn open(&mut self) -> Operation {
        let slot = self.dice.below(SLOTS as u64) as usize;
        let accesses = [Access::Read, Access::Write, Access::Both, Access::Both];
        let access = *self.dice.pick(&accesses);
        let creates = access != Access::Read && self.dice.chance(60);
        let path = match creates {
            true => self.belief.new_file(&mut self.dice),
            false => self.belief.file(&mut self.dice),
        };
        let mut flags = Vec::new();
        let mut maybe = |percent, name: &str| {
            if self.dice.chance(percent) {
                flags.push(name.to_owned());
            }
        };
        if creates {
            maybe(100, "O_CREAT");
            maybe(15, "O_EXCL");
            self.belief.made_file(&path);
        }
        if access != Access::Read {
            maybe(12, "O_TRUNC");
            maybe(20, "O_APPEND");
        }
        maybe(6, "O_DIRECT");
        maybe(6, "O_SYNC");
        self.belief.opened(slot);
        Operation::Open {
            path,
            slot,
            access,
            flags,
            mode: self.mode(),
        }
    }

    fn file_operation(&mut self) -> Operation {
        let path = self.belief.file(&mut self.dice);
        let (length, offset, stamp) = (self.length(), self.offset(), self.stamp());
        match self.dice.below(if self.focus.local { 100 } else { 80 }) {
            0..27 => Operation::ReadFile { path },
            27..52 => {
                let path = self.belief.new_file(&mut self.dice);
                self.belief.made_file(&path);
                Operation::WriteFile {
                    path,
                    length,
                    stamp,
                }
            }
            52..68 => Operation::AppendFile {
                path,
                length,
                stamp,
            },
            68..80 => Operation::Truncate {
                path,
                length: offset,
            },
            80..92 => Operation::MapWrite {
                path,
                offset: offset as usize,
                length,
                stamp,
            },
            _ => Operation::MapRead { path },
        }
    }

    fn name_operation(&mut self) -> Operation {
        let entry = self.belief.entry(&mut self.dice);
        let new = self.belief.new_file(&mut self.dice);
        match self.dice.below(100) {
            0..20 => self.rename(),
            20..32 => {
                self.belief.made_file(&new);
                Operation::Link {
                    from: self.belief.file(&mut self.dice),
                    to: new,
                }
            }
            32..38 => {
                self.belief.made_file(&new);
                Operation::Symlink {
                    target: (*self.dice.pick(&TARGETS)).to_owned(),
                    path: new,
                }
            }
            38..42 => Operation::ReadLink { path: entry },
            42..60 => {
                let path = self.belief.file(&mut self.dice);
                self.belief.removed(&path);
                Operation::Unlink { path }
            }
            60..72 => {
                let path = self.belief.new_folder(&mut self.dice);
                self.belief.made_folder(&path);
                Operation::MakeDirectory {
                    path,
                    mode: self.mode(),
                }
            }
            72..80 => self.remove_directory(),
            80..90 => self.list(),
            90..92 if self.focus.local => Operation::MakeFifo {
                path: new,
                mode: self.mode(),
            },
            _ => Operation::Status {
                path: entry,
                follow: self.dice.chance(50),
            },
        }
    }

    fn rename(&mut self) -> Operation {
        let exchange = self.dice.weighted(&[
            (60, Exchange::Replace),
            (20, Exchange::NoReplace),
            (20, Exchange::Exchange),
        ]);
        let (belief, dice) = (&self.belief, &mut self.dice);
        let folder = dice.chance(30);
        let from = match folder {
            true => belief.folder(dice),
            false => belief.file(dice),
        };
        let to = match (exchange, folder) {
            (Exchange::Exchange, _) => belief.entry(dice),
            (_, true) => belief.new_folder(dice),
            (_, false) => belief.new_file(dice),
        };
        self.belief.renamed(&from, &to);
        Operation::Rename { from, to, exchange }
    }

    fn remove_directory(&mut self) -> Operation {
        let path = self.belief.folder(&mut self.dice);
        self.belief.removed(&path);
        Operation::RemoveDirectory { path }
    }

    fn list(&mut self) -> Operation {
        let path = match self.dice.chance(30) {
            true => ".".to_owned(),
            false => self.belief.folder(&mut self.dice),
        };
        Operation::List { path }
    }

    fn attribute_operation(&mut self) -> Operation {
        let path = self.belief.entry(&mut self.dice);
        let name = (*self.dice.pick(&XATTRS)).to_owned();
        match self.dice.below(100) {
            0..20 => Operation::ChangeMode {
                path,
                mode: self.mode(),
            },
            20..33 => Operation::ChangeOwner {
                path,
                uid: self.dice.below(3) as u32 * 1000,
                gid: self.dice.below(3) as u32 * 1000,
            },
            33..46 => Operation::SetTimes {
                path,
                accessed: self.time(),
                modified: self.time(),
            },
            46..58 => Operation::Status {
                path,
                follow: self.dice.chance(50),
            },
            58..78 => Operation::SetXattr {
                path,
                name,
                length: self.dice.below(300) as usize,
                stamp: self.stamp(),
                flags: *self
                    .dice
                    .pick(&[0, 0, 0, libc::XATTR_CREATE, libc::XATTR_REPLACE]),
            },
            78..88 => Operation::GetXattr { path, name },
            88..94 => Operation::ListXattr { path },
            _ => Operation::RemoveXattr { path, name },
        }
    }

    /// Around a multiple of the block size, or anywhere in the first blocks.
    fn offset(&mut self) -> u64 {
        let block = self.focus.block_bytes;
        match self.dice.below(10) {
            0..3 => 0,
            3..6 => self.dice.below(5000),
            6..8 => (block * self.dice.below(5)).saturating_sub(self.dice.below(3)),
            _ => self.dice.below(5 * block),
        }
    }

    fn length(&mut self) -> usize {
        let block = self.focus.block_bytes;
        let length = match self.dice.below(20) {
            0 => 0,
            1..9 => 1 + self.dice.below(200),
            9..15 => 1 + self.dice.below(9000),
            15..17 => block,
            17..19 => 1 + self.dice.below(block),
            _ => 1 + self.dice.below(3 * block),
        };
        length as usize
    }

    fn mode(&mut self) -> u32 {
        *self
            .dice
            .pick(&[0o644, 0o755, 0o600, 0o777, 0o1777, 0o4755, 0o2755, 0o000])
    }

    fn stamp(&mut self) -> u32 {
        self.dice.roll() as u32
    }

    /// Sometimes before 1970, always with nanoseconds.
    fn time(&mut self) -> i64 {
        let nanoseconds = self.dice.below(4_000_000_000_000_000_000) as i64;
        nanoseconds - 1_000_000_000_000_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOCUS: Focus = Focus {
        actors: 2,
        block_bytes: 4096,
        local: true,
    };

    #[test]
    fn a_seed_always_means_the_same_steps() {
        assert_eq!(generate(7, 300, FOCUS), generate(7, 300, FOCUS));
        assert_ne!(generate(7, 300, FOCUS), generate(8, 300, FOCUS));
    }

    #[test]
    fn steps_survive_being_printed() {
        for step in generate(1, 2000, FOCUS) {
            let line = serde_json::to_string(&step).unwrap();
            assert_eq!(serde_json::from_str::<Step>(&line).unwrap(), step, "{line}");
        }
    }
}
