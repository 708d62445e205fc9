//! What a plan may assume is there, so that most operations find something to work on.
//!
//! It is guessed from the steps drawn so far, never from a tree: leaving a step out of a plan
//! leaves the others as they are, and wrong guesses bring up the errnos.

use super::dice::Dice;

type Names = [&'static str; 5];
static FILE_NAMES: Names = ["a", "b", "c", "d e", "ü"];
static FOLDER_NAMES: Names = ["A", "B", "C", "D E", "Ü"];
/// Remembered at most; what is older is met again by chance.
const FILES_MAX: usize = 10;
const FOLDERS_MAX: usize = 6;
/// Deeper trees say nothing new.
const DEPTH_MAX: usize = 3;
pub(super) const SLOTS: usize = 5;

/// Files, folders and open slots that probably exist.
#[derive(Debug, Default)]
pub(super) struct Belief {
    files: Vec<String>,
    folders: Vec<String>,
    open: [bool; SLOTS],
}

impl Belief {
    /// A path of one to three names, wherever.
    pub(super) fn any_path(&self, dice: &mut Dice) -> String {
        let depth = dice.weighted(&[(50, 1), (37, 2), (13, 3)]);
        let mut names: Vec<_> = (1..depth).map(|_| *dice.pick(&FOLDER_NAMES)).collect();
        names.push(name(dice, &FILE_NAMES, &FOLDER_NAMES));
        names.join("/")
    }

    /// A path for a file, in a folder that probably exists.
    pub(super) fn new_file(&self, dice: &mut Dice) -> String {
        let name = name(dice, &FILE_NAMES, &FOLDER_NAMES);
        match self.folders.is_empty() || dice.chance(35) {
            true => name.to_owned(),
            false => format!("{}/{name}", dice.pick(&self.folders)),
        }
    }

    /// A path for a folder, not deep.
    pub(super) fn new_folder(&self, dice: &mut Dice) -> String {
        let name = name(dice, &FOLDER_NAMES, &FILE_NAMES);
        let shallow = |folder: &&String| folder.matches('/').count() + 1 < DEPTH_MAX;
        let parents: Vec<_> = self.folders.iter().filter(shallow).collect();
        match parents.is_empty() || dice.chance(50) {
            true => name.to_owned(),
            false => format!("{}/{name}", dice.pick(&parents)),
        }
    }

    /// A file that probably exists.
    pub(super) fn file(&self, dice: &mut Dice) -> String {
        match self.files.is_empty() || dice.chance(12) {
            true => self.any_path(dice),
            false => dice.pick(&self.files).clone(),
        }
    }

    /// A directory that probably exists.
    pub(super) fn folder(&self, dice: &mut Dice) -> String {
        match self.folders.is_empty() || dice.chance(15) {
            true => self.any_path(dice),
            false => dice.pick(&self.folders).clone(),
        }
    }

    /// Anything.
    pub(super) fn entry(&self, dice: &mut Dice) -> String {
        match dice.chance(25) {
            true => self.folder(dice),
            false => self.file(dice),
        }
    }

    /// A slot that is probably open.
    pub(super) fn slot(&self, dice: &mut Dice) -> usize {
        let open: Vec<_> = (0..SLOTS).filter(|&slot| self.open[slot]).collect();
        match open.is_empty() || dice.chance(5) {
            true => dice.below(SLOTS as u64) as usize,
            false => *dice.pick(&open),
        }
    }

    pub(super) fn opened(&mut self, slot: usize) {
        self.open[slot] = true;
    }

    pub(super) fn closed(&mut self, slot: usize) {
        self.open[slot] = false;
    }

    pub(super) fn made_file(&mut self, path: &str) {
        remember(&mut self.files, path, FILES_MAX);
    }

    pub(super) fn made_folder(&mut self, path: &str) {
        remember(&mut self.folders, path, FOLDERS_MAX);
    }

    pub(super) fn removed(&mut self, path: &str) {
        self.files.retain(|known| known != path);
        self.folders.retain(|known| known != path);
    }

    pub(super) fn renamed(&mut self, from: &str, to: &str) {
        for known in self.files.iter_mut().chain(&mut self.folders) {
            if let Some(rest) = known.strip_prefix(from)
                && (rest.is_empty() || rest.starts_with('/'))
            {
                *known = format!("{to}{rest}");
            }
        }
    }
}

/// A usual name, now and then one that is usual for the other kind.
fn name(dice: &mut Dice, usual: &'static Names, other: &'static Names) -> &'static str {
    let names = if dice.chance(6) { other } else { usual };
    names[dice.below(names.len() as u64) as usize]
}

fn remember(known: &mut Vec<String>, path: &str, count_max: usize) {
    if !known.iter().any(|known| known == path) {
        if known.len() == count_max {
            known.remove(0);
        }
        known.push(path.to_owned());
    }
}
