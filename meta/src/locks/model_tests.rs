//! Random requests have the same outcome in the lock table and in a naive model of bytes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Bytes of a file; the last stands for all behind it.
const BYTES: u64 = 7;
const INODES: [InodeId; 2] = [InodeId(7), InodeId(8)];

#[derive(Clone, Copy, Debug)]
enum Operation {
    Lock {
        inode: InodeId,
        owner: Owner,
        range: Range,
        mode: Mode,
        wait: bool,
    },
    Unlock {
        inode: InodeId,
        owner: Owner,
        range: Range,
    },
    /// Gives up one of the requests so far.
    Cancel(prop::sample::Index),
    Close(InodeId, SessionId),
    EndSession(SessionId),
}

/// A request that waits, or was granted with what was there before.
#[derive(Clone, Debug)]
struct Request {
    ticket: Ticket,
    inode: InodeId,
    owner: Owner,
    range: Range,
    mode: Mode,
    wait: bool,
}

type Bytes = BTreeMap<u64, Mode>;

#[derive(Debug, Default)]
struct Model {
    held: BTreeMap<(InodeId, Owner), Bytes>,
    waiting: Vec<Request>,
    granted: Vec<(Request, Bytes)>,
    told: Vec<Ticket>,
}

fn bytes(range: Range) -> impl Iterator<Item = u64> {
    (0..BYTES).filter(move |&byte| range.first <= byte && byte <= range.last)
}

fn same_family(one: Owner, other: Owner) -> bool {
    (one.kind == Kind::Flock) == (other.kind == Kind::Flock)
}

impl Model {
    fn blockers(&self, inode: InodeId, owner: Owner, range: Range, mode: Mode) -> BTreeSet<Owner> {
        let others = self.held.iter().filter(|((at, other), _)| {
            *at == inode && *other != owner && same_family(*other, owner)
        });
        let blocks = |held: &Bytes| {
            bytes(range).any(|byte| held.get(&byte).is_some_and(|held| held.excludes(mode)))
        };
        others
            .filter(|(_, held)| blocks(held))
            .map(|((_, other), _)| *other)
            .collect()
    }

    fn is_free(&self, request: &Request) -> bool {
        let Request {
            inode,
            owner,
            range,
            mode,
            ..
        } = *request;
        self.blockers(inode, owner, range, mode).is_empty()
    }

    /// Whether a request waits for its own owner by way of others, all of them processes.
    fn is_in_a_circle(&self, request: &Request) -> bool {
        let blockers = |request: &Request| {
            let Request {
                inode,
                owner,
                range,
                mode,
                ..
            } = *request;
            match owner.kind {
                Kind::Record => self.blockers(inode, owner, range, mode),
                Kind::Flock | Kind::OpenFile => BTreeSet::new(),
            }
        };
        let mut reached = blockers(request);
        loop {
            let before = reached.len();
            for other in &self.waiting {
                if reached.contains(&other.owner) {
                    reached.extend(blockers(other));
                }
            }
            if reached.len() == before {
                return reached.contains(&request.owner);
            }
        }
    }

    fn set(&mut self, inode: InodeId, owner: Owner, range: Range, mode: Option<Mode>) {
        self.granted
            .retain(|(granted, _)| (granted.inode, granted.owner) != (inode, owner));
        let held = self.held.entry((inode, owner)).or_default();
        for byte in bytes(range) {
            match mode {
                Some(mode) => held.insert(byte, mode),
                None => held.remove(&byte),
            };
        }
    }

    fn grant(&mut self, request: Request) {
        let held = self.held.get(&(request.inode, request.owner));
        let held = held.cloned().unwrap_or_default().into_iter();
        let range = request.range;
        let before = held
            .filter(|(byte, _)| bytes(range).any(|within| within == *byte))
            .collect();
        self.set(request.inode, request.owner, range, Some(request.mode));
        self.granted.push((request, before));
    }

    fn serve(&mut self) {
        while let Some(at) = self
            .waiting
            .iter()
            .position(|request| self.is_free(request))
        {
            let request = self.waiting.remove(at);
            self.told.push(request.ticket);
            self.grant(request);
        }
    }

    fn lock(&mut self, request: Request) -> Result<Outcome, Status> {
        let Request {
            inode, owner, mode, ..
        } = request;
        if owner.kind == Kind::Flock {
            let held = self.held.get(&(inode, owner)).and_then(|held| held.get(&0));
            if held == Some(&mode) {
                return Ok(Outcome::Granted);
            }
            self.set(inode, owner, Range::ALL, None);
        }
        let outcome = if self.is_free(&request) {
            self.grant(request);
            Ok(Outcome::Granted)
        } else if !request.wait {
            Err(Status::Again)
        } else if self.is_in_a_circle(&request) {
            Err(Status::Deadlock)
        } else {
            self.waiting.push(request);
            Ok(Outcome::Queued)
        };
        self.serve();
        outcome
    }

    fn cancel(&mut self, ticket: Ticket) {
        self.waiting.retain(|request| request.ticket != ticket);
        let at = self
            .granted
            .iter()
            .position(|(granted, _)| granted.ticket == ticket);
        let Some((
            Request {
                inode,
                owner,
                range,
                ..
            },
            before,
        )) = at.map(|at| self.granted.remove(at))
        else {
            return;
        };
        self.set(inode, owner, range, None);
        // What was held is put back in as long pieces as there were.
        let mut pieces: Vec<(u64, u64, Mode)> = Vec::new();
        for (byte, mode) in before {
            match pieces.last_mut() {
                Some((_, last, alike)) if *last + 1 == byte && *alike == mode => *last = byte,
                _ => pieces.push((byte, byte, mode)),
            }
        }
        for (first, last, mode) in pieces {
            let range = Range { first, last };
            let modes = [mode, Mode::Shared].into_iter();
            let mut free =
                modes.filter(|&mode| self.blockers(inode, owner, range, mode).is_empty());
            if let Some(mode) = free.next() {
                self.set(inode, owner, range, Some(mode));
            }
        }
        self.serve();
    }

    /// Serves only when all is free: nobody is granted what the session has still to give back.
    fn release(&mut self, session: SessionId, inode: Option<InodeId>) {
        let meant = |at: InodeId, owner: Owner| {
            owner.session == session && inode.is_none_or(|inode| inode == at)
        };
        self.waiting
            .retain(|request| !meant(request.inode, request.owner));
        self.granted
            .retain(|(request, _)| !meant(request.inode, request.owner));
        self.held.retain(|(at, owner), _| !meant(*at, *owner));
        self.serve();
    }
}

fn owners() -> Vec<Owner> {
    let kinds = [Kind::Flock, Kind::Record, Kind::Record, Kind::OpenFile];
    let of = |session| {
        let kinds = kinds.into_iter().zip(1..);
        kinds.map(move |(kind, id)| Owner {
            session: SessionId(session),
            kind,
            id,
        })
    };
    (1..=3).flat_map(of).collect()
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let inode = || prop::sample::select(INODES.to_vec());
    let session = || (1..=3u64).prop_map(SessionId);
    let place = (inode(), prop::sample::select(owners()), 0..BYTES, 0..BYTES);
    let place = place.prop_map(|(inode, owner, one, other)| {
        let (first, last) = (one.min(other), one.max(other));
        let last = if last == BYTES - 1 {
            Range::ALL.last
        } else {
            last
        };
        let range = match owner.kind {
            Kind::Flock => Range::ALL,
            _ => Range { first, last },
        };
        (inode, owner, range)
    });
    let mode = prop_oneof![Just(Mode::Shared), Just(Mode::Exclusive)];
    let lock = (place.clone(), mode, prop::bool::weighted(0.8));
    let lock = lock.prop_map(|((inode, owner, range), mode, wait)| Operation::Lock {
        inode,
        owner,
        range,
        mode,
        wait,
    });
    let unlock = place.prop_map(|(inode, owner, range)| Operation::Unlock {
        inode,
        owner,
        range,
    });
    let one = prop_oneof![
        12 => lock,
        5 => unlock,
        2 => any::<prop::sample::Index>().prop_map(Operation::Cancel),
        1 => (inode(), session()).prop_map(|(inode, session)| Operation::Close(inode, session)),
        1 => session().prop_map(Operation::EndSession),
    ];
    prop::collection::vec(one, 1..80)
}

/// The two side by side.
struct Both {
    locks: Locks,
    model: Model,
    tickets: Vec<Ticket>,
    /// An owner that waits does nothing else, as a process of one thread.
    one_thread: bool,
}

impl Both {
    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Lock { owner, .. } | Operation::Unlock { owner, .. }
                if self.one_thread && self.waits(owner) => {}
            Operation::Lock {
                inode,
                owner,
                range,
                mode,
                wait,
            } => {
                let ticket = Ticket {
                    session: owner.session,
                    number: self.tickets.len() as u64 + 1,
                };
                let patience = match wait {
                    true => Patience::Waits(ticket.number),
                    false => Patience::None(ticket.number),
                };
                let lock = Lock {
                    range,
                    mode,
                    process: 1,
                };
                let found = self.locks.lock(inode, owner, lock, patience);
                let request = Request {
                    ticket,
                    inode,
                    owner,
                    range,
                    mode,
                    wait,
                };
                assert_eq!(found, self.model.lock(request));
                self.tickets.push(ticket);
            }
            Operation::Unlock {
                inode,
                owner,
                range,
            } => {
                self.locks.unlock(inode, owner, range).unwrap();
                self.model.set(inode, owner, range, None);
                self.model.serve();
            }
            Operation::Cancel(_) if self.tickets.is_empty() => {}
            Operation::Cancel(index) => {
                let ticket = *index.get(&self.tickets);
                self.locks.cancel(ticket);
                self.model.cancel(ticket);
            }
            Operation::Close(inode, session) => {
                self.locks.release_session(inode, session);
                self.model.release(session, Some(inode));
            }
            Operation::EndSession(session) => {
                self.locks.end_session(session);
                self.model.release(session, None);
            }
        }
    }

    fn waits(&self, owner: Owner) -> bool {
        self.model
            .waiting
            .iter()
            .any(|request| request.owner == owner)
    }

    fn check(&mut self) {
        let told: BTreeSet<_> = self.locks.take_granted().into_iter().collect();
        let expected: BTreeSet<_> = std::mem::take(&mut self.model.told).into_iter().collect();
        assert_eq!(told, expected);
        let mut held = 0;
        for (inode, owner) in INODES.into_iter().flat_map(|inode| {
            let owners = owners().into_iter();
            owners.map(move |owner| (inode, owner))
        }) {
            let pieces = self.locks.list(inode, owner.kind).pieces(owner);
            held += pieces.len();
            for (piece, next) in pieces.iter().zip(pieces.iter().skip(1)) {
                assert!(piece.range.last < next.range.first);
                let touch = piece.range.last + 1 == next.range.first;
                assert!(!touch || piece.mode != next.mode, "two pieces that are one");
            }
            let found = pieces.iter();
            let found = found.flat_map(|lock| bytes(lock.range).map(|byte| (byte, lock.mode)));
            let expected = self.model.held.get(&(inode, owner)).cloned();
            assert_eq!(found.collect::<Bytes>(), expected.unwrap_or_default());
            for lock in pieces {
                let blockers = self.model.blockers(inode, owner, lock.range, lock.mode);
                assert!(blockers.is_empty(), "{owner:?} and {blockers:?} conflict");
            }
        }
        for request in &self.model.waiting {
            assert!(
                !self.model.is_free(request),
                "{request:?} waits for nothing"
            );
            if self.one_thread {
                assert!(!self.model.is_in_a_circle(request), "nobody gets on");
            }
        }
        assert_eq!(self.locks.held, held);
        assert_eq!(self.locks.waiting, self.model.waiting.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn lock_table_agrees_with_a_model_of_bytes(
        operations in operations(),
        one_thread in any::<bool>(),
    ) {
        let mut both = Both {
            locks: Locks::default(),
            model: Model::default(),
            tickets: Vec::new(),
            one_thread,
        };
        for operation in operations {
            both.apply(operation);
            both.check();
        }
        for session in 1..=3 {
            both.apply(Operation::EndSession(SessionId(session)));
        }
        both.check();
        prop_assert!(both.locks.inodes.is_empty());
    }
}
