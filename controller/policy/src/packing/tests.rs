//! Where parts of jobs go, and that nothing is promised twice.

use proptest::prelude::*;

use super::*;

fn room(server: u64, free: (u64, u64), all: (u64, u64)) -> Room {
    Room {
        server: ServerId(server),
        free_bytes: free.0,
        free_bytes_per_second: free.1,
        capacity_bytes: all.0,
        bytes_per_second: all.1,
        used_bytes: 0,
    }
}

fn needs(capacity_bytes: u64, bytes_per_second: u64) -> Needs {
    Needs {
        capacity_bytes,
        bytes_per_second,
    }
}

fn packed(parts: &[(u64, u64)], left: u64) -> Packed {
    let parts = parts.iter().map(|&(id, parts)| (ServerId(id), parts));
    Packed {
        parts: parts.collect(),
        left,
    }
}

#[test]
fn gaps_are_filled_before_empty_servers_are_opened() {
    let rooms = [
        room(1, (100, 100), (100, 100)),
        room(2, (50, 100), (100, 100)),
        room(3, (25, 25), (100, 100)),
        room(4, (0, 100), (100, 100)),
    ];
    let fill = |needs| pack(needs, WHOLE, &rooms, Packing::Fill);
    assert_eq!(fill(needs(25, 10)), packed(&[(3, WHOLE)], 0));
    assert_eq!(fill(needs(50, 10)), packed(&[(2, WHOLE)], 0));
    assert_eq!(
        fill(needs(100, 10)),
        packed(&[(1, WHOLE)], 0),
        "on one server if one holds it"
    );
    // The largest while it takes several, and what is left to the tightest.
    assert_eq!(
        fill(needs(125, 10)),
        packed(&[(1, WHOLE * 4 / 5), (2, WHOLE - WHOLE * 4 / 5)], 0)
    );
    // Bound by throughput: the fraction of the bytes follows that of the throughput.
    assert_eq!(
        fill(needs(4, 400)),
        packed(
            &[(1, WHOLE / 4), (2, WHOLE / 4), (3, WHOLE / 16)],
            WHOLE / 16 * 7
        )
    );
}

#[test]
fn of_equally_full_servers_the_less_used_is_first() {
    let busy = Room {
        used_bytes: 9,
        ..room(1, (50, 50), (100, 100))
    };
    let idle = room(2, (50, 50), (100, 100));
    let given = pack(needs(10, 0), WHOLE, &[busy, idle], Packing::Fill);
    assert_eq!(given, packed(&[(2, WHOLE)], 0));
}

#[test]
fn slivers_are_left_alone_unless_they_hold_all_that_is_left() {
    let sliver = room(1, (1, 1_000), (1_000, 1_000));
    let empty = room(2, (1_000, 1_000), (1_000, 1_000));
    let fill = |needs| pack(needs, WHOLE, &[sliver, empty], Packing::Fill);
    assert_eq!(fill(needs(500, 0)), packed(&[(2, WHOLE)], 0));
    assert_eq!(fill(needs(1, 0)), packed(&[(1, WHOLE)], 0));
    // A gap of an eighth of the server is worth it, less is not.
    let gap = |free| room(1, (free, 1_280), (1_280, 1_280));
    let taken = |free| {
        pack(needs(2_000, 0), WHOLE, &[gap(free), empty], Packing::Fill)
            .parts
            .len()
    };
    assert_eq!((taken(161), taken(159)), (2, 1));
}

#[test]
fn spreading_follows_the_scarcer_resource() {
    let rooms = [
        room(1, (100, 10), (100, 100)),
        room(2, (100, 30), (100, 100)),
        room(3, (0, 100), (100, 100)),
    ];
    let given = pack(needs(10, 40), WHOLE, &rooms, Packing::Spread);
    assert_eq!(given, packed(&[(1, WHOLE / 4), (2, WHOLE / 4 * 3)], 0));
    let given = pack(needs(10, 80), WHOLE, &rooms, Packing::Spread);
    assert_eq!(given.left, WHOLE / 2);
}

#[test]
fn of_very_many_servers_the_emptiest_that_hold_the_job_are_taken() {
    let rooms: Vec<_> = (1..=500)
        .map(|id| room(id, (id, 1), (1_000, 1_000)))
        .collect();
    let few = pack(needs(10, 0), WHOLE, &rooms, Packing::Spread);
    assert_eq!((few.parts.len(), few.left), (SPREAD_SERVERS_MAX, 0));
    assert!(few.parts.iter().all(|(server, _)| server.0 > 436));
    // All that 400 servers have.
    let large: u64 = (101..=500).sum();
    let many = pack(needs(large, 0), WHOLE, &rooms, Packing::Spread);
    assert!(
        (400..=402).contains(&many.parts.len()),
        "{}",
        many.parts.len()
    );
    assert_eq!(many.left, 0);
}

#[test]
fn unknown_throughput_is_no_obstacle_and_no_fullness() {
    let rooms = [
        room(1, (50, u64::MAX), (100, u64::MAX)),
        room(2, (25, u64::MAX), (100, u64::MAX)),
    ];
    let given = pack(needs(10, 1 << 40), WHOLE, &rooms, Packing::Fill);
    assert_eq!(given, packed(&[(2, WHOLE)], 0));
}

fn rooms() -> impl Strategy<Value = Vec<Room>> {
    let resource = || {
        let all = prop_oneof![Just(1u64), 1..1_000u64, 1..1u64 << 45];
        all.prop_flat_map(|all| (Just(all), 0..=all))
    };
    let one = (resource(), resource());
    proptest::collection::vec(one, 0..12).prop_map(|servers| {
        let rooms = servers.into_iter().zip(1..);
        let rooms = rooms.map(|((bytes, rate), id)| room(id, (bytes.1, rate.1), (bytes.0, rate.0)));
        rooms.collect()
    })
}

proptest! {
    #[test]
    fn nothing_is_promised_that_is_not_free(
        rooms in rooms(), capacity in 1..1u64 << 46, rate in 0..1u64 << 46,
        packing in prop_oneof![Just(Packing::Spread), Just(Packing::Fill)],
    ) {
        let needs = needs(capacity, rate);
        let given = pack(needs, WHOLE, &rooms, packing);
        let placed: u64 = given.parts.iter().map(|(_, parts)| parts).sum();
        prop_assert_eq!(placed + given.left, WHOLE);
        let shares = to_shares(needs, &given);
        for share in &shares {
            let room = rooms.iter().find(|room| room.server == share.server).expect("exists");
            prop_assert!(share.bytes <= room.free_bytes);
            prop_assert!(share.bytes_per_second <= room.free_bytes_per_second);
        }
        let sum = |of: fn(&Share) -> u64| shares.iter().map(of).sum::<u64>();
        prop_assert!(sum(|share| share.bytes) <= capacity);
        prop_assert!(sum(|share| share.bytes_per_second) <= rate);
        if packing == Packing::Spread && given.left > 0 {
            let offered: u64 = rooms.iter().map(|room| room.parts(needs)).sum();
            prop_assert_eq!(placed, offered, "all that fits is used");
        }
    }

    #[test]
    fn all_of_a_tiny_job_is_placed_and_no_more(
        free in proptest::collection::vec(0..=i64::MAX as u64, 1..100), bytes in 1..1_000u64,
        parts in 1..=WHOLE * 1_000,
    ) {
        let rooms: Vec<_> = free.iter().zip(1..).map(|(free, id)| {
            room(id, (*free, 0), (*free, 0))
        }).collect();
        for packing in [Packing::Spread, Packing::Fill] {
            let given = pack(needs(bytes, 0), parts, &rooms, packing);
            let placed: u64 = given.parts.iter().map(|(_, parts)| parts).sum();
            prop_assert_eq!(placed + given.left, parts, "{:?}", packing);
        }
    }

    #[test]
    fn more_room_never_places_less(
        rooms in rooms(), capacity in 1..1u64 << 46, rate in 0..1u64 << 46, at: usize, more in 1..1u64 << 40,
    ) {
        let needs = needs(capacity, rate);
        let before = pack(needs, WHOLE, &rooms, Packing::Spread).left;
        let mut larger = rooms;
        if larger.is_empty() {
            return Ok(());
        }
        let at = at % larger.len();
        larger[at].free_bytes += more;
        larger[at].capacity_bytes += more;
        prop_assert!(pack(needs, WHOLE, &larger, Packing::Spread).left <= before);
    }
}

#[test]
fn a_server_is_as_full_as_the_fuller_of_its_resources() {
    let quarters = |free, all| room(1, free, all).fullness() / (WHOLE / 4);
    assert_eq!(quarters((100, 100), (100, 100)), 0);
    assert_eq!(quarters((25, 50), (100, 100)), 3);
    assert_eq!(quarters((80, 0), (80, 9)), 4);
    assert_eq!(quarters((60, u64::MAX), (80, u64::MAX)), 1, "not known");
    assert_eq!(quarters((200, 0), (100, 0)), 0, "more than there is");
}

#[test]
fn a_server_that_holds_no_part_of_a_job_is_given_none() {
    let rooms = [room(1, (4, 4), (4, 4)), room(2, (0, 0), (4, 4))];
    let huge = needs(1 << 53, 0);
    assert_eq!(pack(huge, WHOLE, &rooms, Packing::Fill), packed(&[], WHOLE));
}

#[test]
fn tiny_jobs_are_spread_by_room_as_others_are() {
    // Of such a job so many times fit that parts times room would overflow.
    let rooms = [
        room(1, (1 << 62, 0), (1 << 62, 0)),
        room(2, (1 << 61, 0), (1 << 61, 0)),
    ];
    let spread = pack(needs(1, 0), WHOLE, &rooms, Packing::Spread);
    let third = WHOLE / 3;
    let given: Vec<_> = spread.parts.iter().map(|(_, parts)| *parts).collect();
    assert!(given[0].abs_diff(2 * third) < 4, "{given:?}");
    assert!(given[1].abs_diff(third) < 4, "{given:?}");
    assert_eq!(spread.left, 0);
}

#[test]
fn a_server_whose_part_is_rounded_to_nothing_is_not_named() {
    let rooms = [room(1, (1 << 60, 0), (1 << 60, 0)), room(2, (1, 0), (1, 0))];
    let spread = pack(needs(1 << 30, 0), WHOLE, &rooms, Packing::Spread);
    assert_eq!(spread, packed(&[(1, WHOLE)], 0));
}
