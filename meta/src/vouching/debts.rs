//! What a storage server that was away is to drop before it is vouched for again.
//!
//! Whoever removes or cuts a file does not wait for a server that the controller calls dead. It may
//! come back with all that it had; so what it was not told is kept here, and until it has done it
//! its blocks are neither read nor changed by anybody.

use std::collections::{BTreeMap, HashMap, HashSet};

use pocket_proto::{BlockAddress, BlockIndex, InodeId, JobId};

/// Removed inodes that are kept for one server: 32 MB of ids. What comes on top stays on the server,
/// read by nobody, until its job ends.
const REMOVED_MAX: usize = 4_000_000;

/// Something to be dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Debt {
    /// Every block of the job.
    Job(JobId),
    /// Every block of the inodes.
    Inodes(JobId, Vec<InodeId>),
    /// What is behind the new end of a file.
    Cut(JobId, InodeId, Cut),
    /// One block, which is somewhere else now.
    Block(JobId, BlockAddress, Counted),
}

/// Where the bytes of a block that has been put elsewhere are counted as its file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// At this place as well as at the other.
    Here,
    /// At the other only.
    Elsewhere,
}

/// A file's new end: the first block that is not whole any more, and the bytes of it that stay.
pub(crate) type Cut = (BlockIndex, u32);

/// Debts of one server.
#[derive(Debug, Default)]
pub(super) struct Debts {
    jobs: BTreeMap<JobId, OfJob>,
}

#[derive(Debug, Default)]
struct OfJob {
    whole: bool,
    removed: Vec<InodeId>,
    /// The shortest that each file has been: it can be longer now, and is zeros from there.
    cuts: HashMap<InodeId, Cut>,
    blocks: HashMap<(InodeId, BlockIndex), (BlockAddress, Counted)>,
}

impl Debts {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(super) fn add(&mut self, debt: Debt) {
        let count: usize = self.jobs.values().map(|job| job.removed.len()).sum();
        let of = self.jobs.entry(debt.job()).or_default();
        match debt {
            _ if of.whole => {}
            Debt::Job(_) => {
                *of = OfJob {
                    whole: true,
                    ..OfJob::default()
                }
            }
            Debt::Inodes(_, mut inodes) => {
                inodes.truncate(REMOVED_MAX.saturating_sub(count));
                let gone: HashSet<_> = inodes.iter().copied().collect();
                of.cuts.retain(|inode, _| !gone.contains(inode));
                of.blocks.retain(|(inode, _), _| !gone.contains(inode));
                of.removed.append(&mut inodes);
            }
            Debt::Cut(_, inode, cut) => {
                let known = of.cuts.entry(inode).or_insert(cut);
                *known = cut.min(*known);
            }
            Debt::Block(_, address, counted) => {
                let block = (address.inode, address.block);
                of.blocks.insert(block, (address, counted));
            }
        }
        self.forget_settled();
    }

    /// What is to be done next.
    pub(super) fn next(&self) -> Option<Debt> {
        let (&job, of) = self.jobs.first_key_value()?;
        if of.whole {
            return Some(Debt::Job(job));
        }
        if !of.removed.is_empty() {
            return Some(Debt::Inodes(job, of.removed.clone()));
        }
        if let Some((&inode, &cut)) = of.cuts.iter().next() {
            return Some(Debt::Cut(job, inode, cut));
        }
        let &(address, counted) = of.blocks.values().next()?;
        Some(Debt::Block(job, address, counted))
    }

    /// It was done. What came on top meanwhile is not.
    pub(super) fn paid(&mut self, debt: &Debt) {
        let Some(of) = self.jobs.get_mut(&debt.job()) else {
            return;
        };
        match debt {
            Debt::Job(_) => of.whole = false,
            Debt::Inodes(_, inodes) => {
                let done = inodes.len().min(of.removed.len());
                of.removed.drain(..done);
            }
            Debt::Cut(_, inode, cut) => {
                if of.cuts.get(inode) == Some(cut) {
                    of.cuts.remove(inode);
                }
            }
            Debt::Block(_, address, _) => {
                of.blocks.remove(&(address.inode, address.block));
            }
        }
        self.forget_settled();
    }

    pub(super) fn clear(&mut self) {
        self.jobs.clear();
    }

    fn forget_settled(&mut self) {
        self.jobs.retain(|_, of| {
            let is_settled = of.removed.is_empty() && of.cuts.is_empty() && of.blocks.is_empty();
            of.whole || !is_settled
        });
    }
}

impl Debt {
    fn job(&self) -> JobId {
        match self {
            Debt::Job(job) | Debt::Inodes(job, _) | Debt::Cut(job, ..) | Debt::Block(job, ..) => {
                *job
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobId = JobId(1);

    fn cut(inode: u64, block: u64, keep_bytes: u32) -> Debt {
        Debt::Cut(JOB, InodeId(inode), (BlockIndex(block), keep_bytes))
    }

    fn removed(inodes: &[u64]) -> Debt {
        Debt::Inodes(JOB, inodes.iter().map(|inode| InodeId(*inode)).collect())
    }

    fn all(debts: &mut Debts) -> Vec<Debt> {
        let mut told = Vec::new();
        while let Some(debt) = debts.next() {
            debts.paid(&debt);
            told.push(debt);
        }
        assert!(debts.is_empty());
        told
    }

    #[test]
    fn the_shortest_that_a_file_has_been_is_what_counts() {
        let mut debts = Debts::default();
        for debt in [cut(7, 3, 9), cut(7, 2, 100), cut(7, 2, 400), cut(8, 1, 0)] {
            debts.add(debt);
        }
        let told = all(&mut debts);
        assert_eq!(told.len(), 2);
        assert!(told.contains(&cut(7, 2, 100)) && told.contains(&cut(8, 1, 0)));
    }

    #[test]
    fn a_removed_file_need_not_be_cut_nor_a_dropped_jobs_files_removed() {
        let mut debts = Debts::default();
        debts.add(cut(7, 3, 9));
        debts.add(removed(&[7, 8]));
        assert_eq!(debts.next(), Some(removed(&[7, 8])));
        debts.add(Debt::Job(JOB));
        debts.add(removed(&[9]));
        assert_eq!(all(&mut debts), [Debt::Job(JOB)]);
    }

    #[test]
    fn what_is_added_while_others_are_told_is_told_next() {
        let mut debts = Debts::default();
        debts.add(removed(&[1, 2]));
        let first = debts.next().unwrap();
        debts.add(removed(&[3]));
        debts.paid(&first);
        assert_eq!(debts.next(), Some(removed(&[3])));
        debts.add(cut(5, 4, 0));
        let (told, cut_told) = (debts.next().unwrap(), cut(5, 4, 0));
        debts.paid(&told);
        assert_eq!(debts.next(), Some(cut_told.clone()));
        debts.add(cut(5, 1, 0));
        debts.paid(&cut_told);
        assert_eq!(all(&mut debts), [cut(5, 1, 0)]);
    }
}
