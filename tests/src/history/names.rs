//! Names in a directory: what creating, removing, renaming and linking do, one after the other.

use std::collections::BTreeMap;

use super::{Event, linear::Model};

/// A name.
pub type Name = u8;

/// What was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// open(2) with O_CREAT and O_EXCL; the number tells one creation from another.
    Create(Name, u64),
    /// unlink(2).
    Unlink(Name),
    /// rename(2).
    Rename(Name, Name),
    /// linkat(2) of an open file, by its inode number: the first name has been looked up before.
    Link(u64, Name),
    /// stat(2).
    Look(Name),
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was done.
    Done,
    /// A rename was done while another one led to the same name: see [`mark_overlaps`].
    DoneOrMoved,
    /// This inode was made, or found.
    Inode(u64),
    /// ENOENT.
    Missing,
    /// EEXIST.
    Exists,
    /// Nobody knows.
    Unknown,
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum File {
    /// The inode of this number.
    Inode(u64),
    /// What this creation made, whose number its caller was not told.
    Made(u64),
}

/// What there is between two operations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Directory {
    names: BTreeMap<Name, File>,
    /// What a name led to before it was moved away.
    moved: BTreeMap<Name, File>,
}

/// Notes of each rename whether another one to the same name was under way at the same time. To be
/// done once before a history is judged.
pub fn mark_overlaps(events: &mut [Event<(Action, Outcome)>]) {
    let end = |event: &Event<_>| event.ret.unwrap_or(u64::MAX);
    let overlaps = |at: usize, to: Name| {
        let one = &events[at];
        let mut others = events.iter().enumerate().filter(|(other, _)| *other != at);
        others.any(|(_, other)| {
            matches!(other.operation.0, Action::Rename(_, name) if name == to)
                && other.call <= end(one)
                && one.call <= end(other)
        })
    };
    let marked: Vec<_> = (0..events.len())
        .filter(|&at| match events[at].operation {
            (Action::Rename(_, to), Outcome::Done) => overlaps(at, to),
            _ => false,
        })
        .collect();
    for at in marked {
        events[at].operation.1 = Outcome::DoneOrMoved;
    }
}

/// The model.
#[derive(Debug)]
pub struct Names;

impl Model for Names {
    type State = Directory;
    type Operation = (Action, Outcome);

    fn apply(before: &Directory, operation: &Self::Operation) -> Vec<Directory> {
        use Outcome as O;
        let (action, outcome) = *operation;
        let names = &before.names;
        let mut after = before.clone();
        let fits = match action {
            Action::Create(name, number) => match (names.contains_key(&name), outcome) {
                (false, O::Inode(inode)) => after.name(name, File::Inode(inode)),
                (false, O::Unknown) => after.name(name, File::Made(number)),
                (true, O::Exists) => true,
                _ => false,
            },
            Action::Unlink(name) => matches!(
                (after.names.remove(&name), outcome),
                (Some(_), O::Done | O::Unknown) | (None, O::Missing)
            ),
            Action::Rename(from, to) => return before.rename(from, to, outcome),
            Action::Link(inode, name) => {
                let file = File::Inode(inode);
                let lives = names.values().any(|named| *named == file);
                match (names.contains_key(&name), outcome) {
                    (true, O::Exists) => true,
                    (false, O::Done | O::Unknown) if lives => after.name(name, file),
                    (_, O::Missing) => !lives,
                    _ => false,
                }
            }
            Action::Look(name) => match (names.get(&name), outcome) {
                (None, O::Missing) => true,
                (Some(File::Inode(inode)), O::Inode(found)) => *inode == found,
                (Some(File::Made(number)), O::Inode(found)) => after.learn(*number, found),
                _ => false,
            },
        };
        if fits { vec![after] } else { Vec::new() }
    }

    fn unknown((action, _): &Self::Operation) -> Option<Self::Operation> {
        match action {
            Action::Look(_) => None,
            _ => Some((*action, Outcome::Unknown)),
        }
    }
}

impl Directory {
    fn name(&mut self, name: Name, file: File) -> bool {
        self.names.insert(name, file).is_none()
    }

    /// What a creation made turns out to be this inode.
    fn learn(&mut self, number: u64, inode: u64) -> bool {
        let (made, inode) = (File::Made(number), File::Inode(inode));
        if self.names.values().any(|file| *file == inode) {
            return false;
        }
        let all = self.names.values_mut().chain(self.moved.values_mut());
        all.filter(|file| **file == made)
            .for_each(|file| *file = inode);
        true
    }

    /// "If oldpath and newpath are existing hard links referring to the same file, then rename()
    /// does nothing" (rename(2)). Linux looks the names up one after the other before it decides
    /// that, and asks the file system no more: what another mount moves from the one to the other
    /// in between, which is while this call lasts, is found under both.
    fn rename(&self, from: Name, to: Name, outcome: Outcome) -> Vec<Directory> {
        let (source, target) = (self.names.get(&from), self.names.get(&to));
        let mut possible = Vec::new();
        match (source, outcome) {
            (Some(source), Outcome::Done | Outcome::DoneOrMoved | Outcome::Unknown)
                if target != Some(source) =>
            {
                let mut after = self.clone();
                after.names.remove(&from);
                after.moved.insert(from, *source);
                after.names.insert(to, *source);
                possible.push(after);
            }
            (Some(_), Outcome::Done | Outcome::DoneOrMoved) | (None, Outcome::Missing) => {
                possible.push(self.clone())
            }
            _ => {}
        }
        if outcome == Outcome::DoneOrMoved && target.is_some() && target == self.moved.get(&from) {
            possible.push(self.clone());
        }
        possible
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Event, super::linear::check, *};

    type Step = (u64, Option<u64>, Action, Outcome);

    fn judge(steps: &[Step]) -> Result<(), usize> {
        let event = |&(call, ret, action, outcome): &Step| Event {
            client: 0,
            call,
            ret,
            operation: (action, outcome),
        };
        let mut events: Vec<_> = steps.iter().map(event).collect();
        mark_overlaps(&mut events);
        check::<Names>(&Directory::default(), &events).map_err(|shown| shown.len())
    }

    use Action::*;
    use Outcome::*;

    #[test]
    fn concurrent_creations_of_a_name_have_one_winner() {
        let one = (0, Some(10), Create(0, 1), Inode(5));
        assert_eq!(judge(&[one, (1, Some(9), Create(0, 2), Exists)]), Ok(()));
        let second = (1, Some(9), Create(0, 2), Inode(6));
        assert_eq!(judge(&[one, second]), Err(2));
        // Unless one of them was removed in between.
        assert_eq!(judge(&[one, second, (2, Some(8), Unlink(0), Done)]), Ok(()));
    }

    #[test]
    fn what_was_removed_is_not_found_later() {
        let made = (0, Some(1), Create(0, 1), Inode(5));
        let gone = (2, Some(3), Unlink(0), Done);
        let bystander = (0, Some(9), Look(1), Missing);
        let late = (4, Some(5), Look(0), Inode(5));
        assert_eq!(judge(&[made, gone, bystander, late]), Err(3));
        let meanwhile = (2, Some(5), Look(0), Inode(5));
        assert_eq!(judge(&[made, gone, bystander, meanwhile]), Ok(()));
    }

    #[test]
    fn a_rename_is_one_step() {
        let made = (0, Some(1), Create(0, 1), Inode(5));
        let moved = (2, Some(9), Rename(0, 1), Done);
        let at = |time, name, outcome| (time, Some(time), Look(name), outcome);
        assert_eq!(
            judge(&[made, moved, at(3, 0, Inode(5)), at(4, 1, Inode(5))]),
            Ok(())
        );
        // Nowhere in between, or in both places.
        assert_eq!(
            judge(&[made, moved, at(3, 0, Missing), at(4, 1, Missing)]),
            Err(4)
        );
        assert_eq!(
            judge(&[made, moved, at(3, 1, Inode(5)), at(4, 0, Inode(5))]),
            Err(4)
        );
    }

    #[test]
    fn a_rename_onto_a_link_of_the_same_file_does_nothing() {
        let steps = [
            (0, Some(1), Create(0, 1), Inode(5)),
            (2, Some(3), Link(5, 1), Done),
            (4, Some(5), Rename(0, 1), Done),
        ];
        let look = |outcome| [&steps[..], &[(6, Some(7), Look(0), outcome)]].concat();
        assert_eq!(judge(&look(Inode(5))), Ok(()));
        assert!(judge(&look(Missing)).is_err());
    }

    #[test]
    fn one_of_two_renames_of_a_name_finds_it() {
        let made = (0, Some(1), Create(0, 1), Inode(5));
        let other = (0, Some(1), Create(2, 2), Inode(6));
        let rename = |to| (2, Some(9), Rename(0, to), Done);
        assert_eq!(judge(&[made, other, rename(1), rename(2)]), Err(4));
        // To the same name: the kernel may have found the file under both.
        assert_eq!(judge(&[made, other, rename(2), rename(2)]), Ok(()));
        // Unless it was there no more when the other one began.
        let late = (10, Some(11), Rename(0, 2), Done);
        assert_eq!(judge(&[made, other, rename(2), late]), Err(4));
    }

    #[test]
    fn a_file_without_names_is_not_linked() {
        let steps = [
            (0, Some(1), Create(0, 1), Inode(5)),
            (2, Some(3), Unlink(0), Done),
            (4, Some(5), Link(5, 1), Done),
        ];
        assert_eq!(judge(&steps), Err(3));
    }

    #[test]
    fn what_may_have_happened_may_show_at_any_time_but_then_it_has() {
        let maybe = (0, None, Create(0, 1), Unknown);
        let at = |time, outcome| (time, Some(time), Look(0), outcome);
        assert_eq!(
            judge(&[maybe, at(3, Missing), at(5, Inode(9)), at(7, Inode(9))]),
            Ok(())
        );
        assert_eq!(judge(&[maybe, at(3, Inode(9)), at(5, Missing)]), Err(3));
        assert_eq!(judge(&[maybe, at(3, Inode(9)), at(5, Inode(8))]), Err(3));
    }
}
