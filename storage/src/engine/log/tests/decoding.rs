//! The decoders of what stands on a medium: whatever they are given, they answer.

use pocket_proto::{InodeId, JobId};
use proptest::{collection::vec, prelude::*};

use super::{FIRST, JOB, open};
use crate::engine::{
    device::SECTOR_BYTES,
    log::{
        LogEngine, Survival,
        entry::{Entry, What, decode_entries, sums_of},
        format::{
            SegmentHeader, Superblock, TABLE_HEADER_BYTES, TableHeader, TableKind,
            encode_table_header,
        },
        look::scan_image,
    },
    tests::{Subject, address, bytes, log_config, now},
};

const SEGMENT: SegmentHeader = SegmentHeader {
    index: 3,
    job: JobId(9),
    nonce: 77,
    opened: 5,
};
const SEGMENT_BYTES: u32 = 1 << 20;

fn entry(seq: u64, data: &[u8], at: u32) -> Entry {
    Entry {
        inode: InodeId(seq),
        block: FIRST,
        what: What::Data {
            offset: 0,
            length: data.len() as u32,
            block_length: data.len() as u32,
            at,
            sums: sums_of(data),
        },
        seq,
        written: seq,
    }
}

/// The front of a segment: two batches of one entry each.
fn image() -> Vec<u8> {
    let mut image = vec![0; 5 * SECTOR_BYTES];
    let header = SEGMENT.encode();
    image[..header.len()].copy_from_slice(&header);
    for (seq, start) in [(10, SECTOR_BYTES), (11, 3 * SECTOR_BYTES)] {
        let data = bytes(5000, seq as u8);
        let mut table = Vec::new();
        let at = start + 512;
        entry(seq, &data, at as u32).encode(&mut table);
        let kind = TableKind::Batch {
            batch_bytes: 2 * SECTOR_BYTES as u32,
        };
        let header = encode_table_header(kind, SEGMENT.nonce, start as u32, 1, &table);
        image[start..][..TABLE_HEADER_BYTES].copy_from_slice(&header);
        image[start + TABLE_HEADER_BYTES..][..table.len()].copy_from_slice(&table);
        image[at..][..data.len()].copy_from_slice(&data);
    }
    image
}

#[test]
fn batches_are_found_as_they_were_written() {
    let found: Vec<_> = scan_image(&image(), &SEGMENT)
        .into_iter()
        .map(|entry| entry.seq)
        .collect();
    assert_eq!(found, [10, 11]);
    let other = SegmentHeader {
        nonce: 78,
        ..SEGMENT
    };
    assert!(
        scan_image(&image(), &other).is_empty(),
        "of another use of the segment"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(noise in vec(any::<u8>(), 0..9000)) {
        let _ = Superblock::decode(&noise);
        let _ = SegmentHeader::decode(&noise, 3);
        let _ = TableHeader::decode_batch(&noise, &SEGMENT, 4096, SEGMENT_BYTES);
        let _ = TableHeader::decode_summary(&noise, &SEGMENT, SEGMENT_BYTES);
        for count in [0, 1, 7, u32::MAX] {
            let _ = decode_entries(&noise, count, SEGMENT_BYTES);
        }
        prop_assert!(scan_image(&noise, &SEGMENT).is_empty());
    }

    #[test]
    fn a_batch_that_was_touched_is_none(at in SECTOR_BYTES..SECTOR_BYTES + 5500, bit in 0..8) {
        let mut image = image();
        image[at] ^= 1_u8 << bit;
        let found = scan_image(&image, &SEGMENT);
        // Bytes between table and payload belong to nobody.
        let expected = entry(10, &bytes(5000, 10), SECTOR_BYTES as u32 + 512);
        prop_assert!(found.iter().all(|found| found.seq == 11 || *found == expected));
        prop_assert!(found.iter().any(|found| found.seq == 11));
    }

    #[test]
    fn an_image_cut_short_has_what_is_whole(length in 0..5 * SECTOR_BYTES) {
        let found = scan_image(&image()[..length], &SEGMENT);
        prop_assert_eq!(found.len(), usize::from(length >= 3 * SECTOR_BYTES));
    }

    #[test]
    fn entries_survive_the_medium(seq: u64, payload in vec(any::<u8>(), 1..9000), count: u64) {
        let data = entry(seq, &payload, 4096);
        let drop = Entry { what: What::Drop { count }, written: u64::MAX, ..data.clone() };
        let mut table = Vec::new();
        data.encode(&mut table);
        drop.encode(&mut table);
        prop_assert_eq!(table.len(), Entry::encoded_bytes(payload.len()) + Entry::encoded_bytes(0));
        prop_assert_eq!(decode_entries(&table, 2, SEGMENT_BYTES), Some(vec![data, drop]));
    }

    #[test]
    fn a_damaged_medium_is_opened_or_refused_and_never_shows_other_bytes(
        places in vec((0..400_usize, 0..SECTOR_BYTES, any::<u8>()), 1..20),
        orderly: bool,
    ) {
        let log = open(1 << 20);
        for inode in 1..20 {
            log.write(JOB, InodeId(inode), FIRST, 0, bytes(3000 * inode as usize, 1)).unwrap();
        }
        let device = log.device.clone();
        let _ = log.restarted(orderly);
        let mut sector_number = 0;
        device.damage(|_, sector| {
            for (_, at, byte) in places.iter().filter(|(place, ..)| *place == sector_number) {
                sector[*at] = *byte;
            }
            sector_number += 1;
        });
        let Ok(opened) = LogEngine::open_device(device, &log_config(1 << 20), 1) else {
            return Ok(());
        };
        prop_assert_ne!(opened.survival, Survival::New);
        for inode in 1..20 {
            let place = address(InodeId(inode), FIRST, 0, 1 << 20);
            if let Ok(read) = now(crate::BlockEngine::read(&opened.engine, JOB, place)) {
                let written = bytes(3000 * inode as usize, 1);
                prop_assert!(read.hole || read.bytes == written, "inode {}", inode);
            }
        }
    }
}
