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
/// Of those, so many are told at a time.
const REMOVED_TOLD_MAX: usize = 65_536;
/// Cuts and blocks that are kept for one server, some 100 MB.
const CHANGED_MAX: usize = 1_000_000;

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
    Block(JobId, BlockAddress),
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
    blocks: HashMap<(InodeId, BlockIndex), BlockAddress>,
}

impl Debts {
    /// Nothing is to be dropped.
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether the server has anything that nobody may read. Of a job that has ended nobody reads.
    pub(super) fn are_due(&self) -> bool {
        self.jobs.values().any(|of| !of.whole)
    }

    /// Whether there are more than are worth keeping.
    pub(super) fn are_too_many(&self) -> bool {
        let changed = |of: &OfJob| of.cuts.len() + of.blocks.len();
        self.jobs.values().map(changed).sum::<usize>() > CHANGED_MAX
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
            Debt::Block(_, address) => {
                of.blocks.insert((address.inode, address.block), address);
            }
        }
        self.forget_settled();
    }

    /// A job whose blocks are to be dropped; they are in nobody's way.
    pub(super) fn next_job(&self) -> Option<Debt> {
        let mut jobs = self.jobs.iter();
        let (&job, _) = jobs.find(|(_, of)| of.whole)?;
        Some(Debt::Job(job))
    }

    /// What is to be done next before anybody reads.
    pub(super) fn next(&self) -> Option<Debt> {
        let mut jobs = self.jobs.iter();
        let (&job, of) = jobs.find(|(_, of)| !of.whole)?;
        if !of.removed.is_empty() {
            let told = of.removed.len().min(REMOVED_TOLD_MAX);
            return Some(Debt::Inodes(job, of.removed[..told].to_vec()));
        }
        if let Some((&inode, &cut)) = of.cuts.iter().next() {
            return Some(Debt::Cut(job, inode, cut));
        }
        let address = of.blocks.values().next()?;
        Some(Debt::Block(job, *address))
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
            Debt::Block(_, address) => {
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
        assert!(!debts.are_due() && !debts.is_empty());
        assert_eq!(debts.next_job(), Some(Debt::Job(JOB)));
        debts.paid(&Debt::Job(JOB));
        assert!(debts.is_empty());
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
