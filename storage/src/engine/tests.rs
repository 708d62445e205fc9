//! What every engine holds to: one suite, and each engine's own tests beside it.

mod cases;
mod model;
mod subject;

pub(super) use cases::{address, bytes};
pub(super) use subject::{LogInMemory, Subject, log_config, now};

use super::DramEngine;
use subject::LogInFile;

/// Runs every case on an engine.
macro_rules! suite {
    ($name:ident, $subject:ty, [$($case:ident,)*]) => {
        mod $name {
            use super::*;

            $(#[test]
            fn $case() {
                cases::$case::<$subject>();
            })*

            #[test]
            fn engine_behaves_like_a_map_of_vectors() {
                model::engine_behaves_like_a_map_of_vectors::<$subject>();
            }
        }
    };
    ($($name:ident: $subject:ty,)*) => {
        $(suite!($name, $subject, [
            absent_block_is_a_hole_and_a_short_one_is_not,
            gap_before_a_write_reads_as_zeros,
            bytes_cut_off_do_not_come_back_when_the_block_grows_again,
            blocks_are_charged_by_their_length,
            capacity_is_reached_exactly_and_a_write_over_it_changes_nothing,
            capacity_holds_under_concurrent_writers,
            truncation_drops_the_blocks_behind,
            jobs_do_not_see_each_other,
            range_beyond_the_largest_block_is_invalid,
            reader_keeps_what_it_read_while_the_block_changes,
            allocation_keeps_what_is_there_and_zeroing_does_not,
            allocation_that_does_not_fit_changes_nothing,
            punching_frees_whole_blocks_and_ends_and_zeroes_the_rest,
            copy_is_a_block_of_its_own,
            many_blocks_are_told_in_several_answers,
            inodes_that_hold_blocks_are_told_in_order,
            space_operations_refuse_what_no_block_holds,
        ]);)*
    };
}

suite! {
    dram: DramEngine,
    log_in_memory: LogInMemory,
    log_in_file: LogInFile,
}
