//! A job's allocation: what its files hold, what its sessions were granted, and what is free.

use pocket_proto::{ByteCount, Failure, Status};

/// A session is granted ahead at most this part of an equal share of what is free.
const SHARE_PARTS: u64 = 8;

/// The allocation and the grants. What files hold is the namespace's to know.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    capacity_bytes: u64,
    granted_bytes: u64,
}

/// What a session asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GrantWish {
    /// What it would like to have.
    pub(crate) wanted_bytes: u64,
    /// What it cannot do without.
    pub(crate) needed_bytes: u64,
    /// Sessions that share the job.
    pub(crate) sessions: u64,
    /// What files hold.
    pub(crate) allocated_bytes: u64,
}

impl Space {
    pub(crate) fn new(capacity_bytes: u64) -> Self {
        Space {
            capacity_bytes,
            granted_bytes: 0,
        }
    }

    pub(crate) fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// A job may be given more or less than before; what is granted stays granted.
    pub(crate) fn set_capacity(&mut self, capacity_bytes: u64) {
        self.capacity_bytes = capacity_bytes;
    }

    pub(crate) fn granted_bytes(&self) -> u64 {
        self.granted_bytes
    }

    /// Bytes that neither files hold nor sessions were granted.
    pub(crate) fn free_bytes(&self, allocated_bytes: u64) -> u64 {
        let used = allocated_bytes.saturating_add(self.granted_bytes);
        self.capacity_bytes.saturating_sub(used)
    }

    /// Grants what is wanted, but no more than a small share of what is free, so that the other
    /// sessions find most of it; and at least what is needed. Fails if that much is not free.
    pub(crate) fn grant(&mut self, wish: GrantWish) -> Result<u64, Failure> {
        let free = self.free_bytes(wish.allocated_bytes);
        if wish.needed_bytes > free {
            return Err(Failure::new(
                Status::QuotaExceeded,
                format!(
                    "{} needed, {} of the job's {} free",
                    ByteCount(wish.needed_bytes),
                    ByteCount(free),
                    ByteCount(self.capacity_bytes)
                ),
            ));
        }
        let share = free / wish.sessions.saturating_mul(SHARE_PARTS).max(1);
        let granted = wish.wanted_bytes.min(share).max(wish.needed_bytes);
        self.granted_bytes += granted;
        Ok(granted)
    }

    /// Takes back what was granted and not used.
    pub(crate) fn give_back(&mut self, bytes: u64) {
        self.granted_bytes = self.granted_bytes.saturating_sub(bytes);
    }

    /// A file gave bytes back to the session that wrote it.
    pub(crate) fn take_back(&mut self, bytes: u64) {
        self.granted_bytes = self.granted_bytes.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(wanted_bytes: u64, needed_bytes: u64) -> GrantWish {
        GrantWish {
            wanted_bytes,
            needed_bytes,
            sessions: 1,
            allocated_bytes: 100,
        }
    }

    #[test]
    fn the_last_byte_can_be_had_and_not_one_more() {
        let mut space = Space::new(1000);
        assert_eq!(space.grant(wish(600, 600)), Ok(600));
        assert_eq!(space.grant(wish(600, 300)), Ok(300));
        let refused = space.grant(wish(1, 1)).unwrap_err();
        assert_eq!(refused.status, Status::QuotaExceeded);
        space.give_back(1);
        assert_eq!(space.grant(wish(600, 1)), Ok(1));
        assert_eq!(space.granted_bytes(), 900);
    }

    #[test]
    fn one_session_leaves_a_share_to_the_others() {
        let mut space = Space::new(1000);
        let shared = GrantWish {
            sessions: 3,
            ..wish(900, 1)
        };
        assert_eq!(space.grant(shared), Ok(900 / 3 / SHARE_PARTS));
        let needy = GrantWish {
            needed_bytes: 600,
            ..shared
        };
        assert_eq!(space.grant(needy), Ok(600));
    }

    #[test]
    fn capacity_below_use_grants_nothing() {
        let mut space = Space::new(1000);
        space.set_capacity(50);
        assert!(space.grant(wish(1, 1)).is_err());
        assert_eq!(space.grant(wish(1, 0)), Ok(0));
    }
}
