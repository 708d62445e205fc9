//! Online packing of a job over servers, by throughput and capacity at once.
//!
//! A server with a fraction of a job's data carries that fraction of its bytes and of its
//! throughput, so the room a server has for a job is the smaller of the two fractions that fit.
//! No server is ever given more than it has free. Fractions are in parts of [`WHOLE`].

use pocket_proto::ServerId;

use crate::Share;

/// All of a job, in parts. Rounding loses less than a byte per petabyte.
pub const WHOLE: u64 = 1 << 50;
/// Where servers can be started, a gap smaller than this part of an empty server is left for a smaller
/// job: a job scattered over slivers holds many servers when the others on them are long gone. Found
/// by simulation: slivers of a 128th cost 0.4 % more, of a half 1.4 %.
const GAP_WORTH_FILLING: u64 = 8;

/// A job is spread over no more servers than this if these hold it: more than the 50 nodes of the
/// default (paper, table 3) and few enough that ten thousand maps fit into memory.
pub const SPREAD_SERVERS_MAX: usize = 64;

/// What has to be placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Bytes held at most.
    pub capacity_bytes: u64,
    /// Bytes per second at the peak; 0 where throughput is not planned.
    pub bytes_per_second: u64,
}

impl Needs {
    /// So many parts of all of it, rounded up.
    pub fn parts(self, parts: u64) -> Needs {
        let part = |amount: u64| {
            (u128::from(amount) * u128::from(parts)).div_ceil(u128::from(WHOLE)) as u64
        };
        Needs {
            capacity_bytes: part(self.capacity_bytes),
            bytes_per_second: part(self.bytes_per_second),
        }
    }
}

/// What a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The server.
    pub server: ServerId,
    /// Bytes that are not promised.
    pub free_bytes: u64,
    /// Throughput that is not promised; `u64::MAX` where it is not known.
    pub free_bytes_per_second: u64,
    /// All it has.
    pub capacity_bytes: u64,
    /// All it has; `u64::MAX` where it is not known.
    pub bytes_per_second: u64,
    /// Bytes in use, to tell equally promised servers apart.
    pub used_bytes: u64,
}

impl Room {
    /// Parts of a job that fit.
    pub(crate) fn parts(&self, needs: Needs) -> u64 {
        self.times(needs).min(WHOLE.into()) as u64
    }

    /// The same where more than the whole job would fit.
    fn times(&self, needs: Needs) -> u128 {
        fitting(needs, self.free_bytes, self.free_bytes_per_second)
    }

    /// Parts of a job that would fit if it were empty.
    fn parts_when_empty(&self, needs: Needs) -> u64 {
        fitting(needs, self.capacity_bytes, self.bytes_per_second).min(WHOLE.into()) as u64
    }

    /// How full it is, in parts of WHOLE: the fuller of its two resources.
    fn fullness(&self) -> u64 {
        let full = |free: u64, all: u64| match all {
            0 | u64::MAX => 0,
            all => (u128::from(all - free.min(all)) * u128::from(WHOLE) / u128::from(all)) as u64,
        };
        let capacity = full(self.free_bytes, self.capacity_bytes);
        capacity.max(full(self.free_bytes_per_second, self.bytes_per_second))
    }
}

/// How servers are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Over every server with room (of many the emptiest, see [`SPREAD_SERVERS_MAX`]), in proportion
    /// to it: where the servers are there anyway, using
    /// fewer of them saves nothing, and the least used weigh most.
    Spread,
    /// The tightest gap that holds all that is left, and where none does the largest gap: gaps are
    /// filled before another server is started, and a job is on few servers, all of which are free
    /// when it ends. (The paper's section 4.2.2 fills the fullest first whatever they have left; in
    /// simulation that costs 6 % more.) Of equal gaps the less used server is first.
    Fill,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Parts of the job per server.
    pub parts: Vec<(ServerId, u64)>,
    /// Parts that found no room.
    pub left: u64,
}

/// Places `parts` of a job on servers with these rooms.
pub fn pack(needs: Needs, parts: u64, rooms: &[Room], packing: Packing) -> Packed {
    match packing {
        Packing::Spread => spread(needs, parts, rooms),
        Packing::Fill => fill(needs, parts, rooms),
    }
}

fn fill(needs: Needs, parts: u64, rooms: &[Room]) -> Packed {
    let mut gaps: Vec<(u64, &Room)> = Vec::with_capacity(rooms.len());
    for room in rooms {
        let gap = room.parts(needs);
        let worth = || gap >= parts || gap >= room.parts_when_empty(needs) / GAP_WORTH_FILLING;
        if gap > 0 && worth() {
            gaps.push((gap, room));
        }
    }
    // The tightest first; of equal gaps those of the fuller server, then of the less used one.
    gaps.sort_by_cached_key(|(gap, room)| {
        (
            *gap,
            u64::MAX - room.fullness(),
            room.used_bytes,
            room.server,
        )
    });
    let mut packed = Packed {
        parts: Vec::new(),
        left: parts,
    };
    while packed.left > 0 {
        let holds_all = gaps.partition_point(|(gap, _)| *gap < packed.left);
        let (gap, room) = match gaps.get(holds_all) {
            Some(tightest) => *tightest,
            None => match gaps.pop() {
                Some(largest) => largest,
                None => break,
            },
        };
        let taken = gap.min(packed.left);
        packed.left -= taken;
        packed.parts.push((room.server, taken));
    }
    packed
}

fn spread(needs: Needs, parts: u64, rooms: &[Room]) -> Packed {
    let rooms = rooms.iter().map(|room| (room.server, room.times(needs)));
    let mut rooms: Vec<_> = rooms.filter(|(_, times)| *times > 0).collect();
    if rooms.len() > SPREAD_SERVERS_MAX {
        // The emptiest of many, as many as hold it.
        rooms.sort_unstable_by_key(|(server, times)| (u128::MAX - times, *server));
        let mut held = 0u128;
        let enough = rooms.iter().position(|(_, times)| {
            held = held.saturating_add(*times);
            held >= u128::from(parts)
        });
        let enough = enough.map_or(rooms.len(), |last| last + 1);
        rooms.truncate(enough.max(SPREAD_SERVERS_MAX));
    }
    let total = rooms
        .iter()
        .fold(0u128, |sum, (_, times)| sum.saturating_add(*times));
    if total <= u128::from(parts) {
        return Packed {
            left: parts - total as u64,
            parts: rooms
                .into_iter()
                .map(|(id, times)| (id, times as u64))
                .collect(),
        };
    }
    // Only the proportion counts: a tiny job fits so many times that a product would overflow.
    let shift = u64::BITS.saturating_sub(total.leading_zeros());
    let total: u128 = rooms.iter().map(|(_, room)| room >> shift).sum();
    // At most a server's room, as less is placed than there is in all.
    let scaled = |room: u128| (u128::from(parts) * (room >> shift) / total) as u64;
    let mut given: Vec<_> = rooms
        .iter()
        .map(|(id, room)| (*id, scaled(*room)))
        .collect();
    // Rounding down lost less than a part per server, and left at least one of every room.
    let lost = parts - given.iter().map(|(_, parts)| parts).sum::<u64>();
    for (_, parts) in given.iter_mut().take(lost as usize) {
        *parts += 1;
    }
    given.retain(|(_, parts)| *parts > 0);
    Packed {
        parts: given,
        left: 0,
    }
}

/// Parts of `needs` that fit into so much.
fn fitting(needs: Needs, bytes: u64, bytes_per_second: u64) -> u128 {
    let parts = |has: u64, need: u64| match need {
        0 => u128::MAX,
        need => u128::from(has) * u128::from(WHOLE) / u128::from(need),
    };
    let both =
        parts(bytes, needs.capacity_bytes).min(parts(bytes_per_second, needs.bytes_per_second));
    // Of a job that needs nothing the whole fits anywhere.
    if both == u128::MAX {
        WHOLE.into()
    } else {
        both
    }
}

/// The parts as bytes and throughput promised on each server. Of a job that is placed as a whole they
/// sum to what it needs exactly.
pub(crate) fn to_shares(needs: Needs, packed: &Packed) -> Vec<Share> {
    // What is given up to a point is rounded, and a share is the difference: at most its exact
    // amount rounded up, which is no more than the server's room, as rooms are whole numbers.
    let up_to = |amount: u64, parts: u64| {
        ((u128::from(amount) * u128::from(parts) + u128::from(WHOLE / 2)) / u128::from(WHOLE))
            as u64
    };
    let mut before = 0;
    let shares = packed.parts.iter().map(|(server, parts)| {
        let after = before + parts;
        let share = |amount| up_to(amount, after) - up_to(amount, before);
        let share = Share {
            server: *server,
            bytes: share(needs.capacity_bytes),
            bytes_per_second: share(needs.bytes_per_second),
        };
        before = after;
        share
    });
    shares.filter(|share| share.bytes > 0).collect()
}

#[cfg(test)]
mod tests;
