//! What the threads of a soak do beside the workers of the load.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::content;

const LARGE_BYTES: usize = 8 << 20;
/// Large files at a time.
const LARGE_FILES: usize = 4;
/// Files of a directory.
const TINY_FILES: usize = 50;
const TINY_BYTES: usize = 100;
const WORKS: &str = "a sound cluster fails nothing";

/// Files are written through one mount and read through the other; the oldest goes.
pub(super) fn large_files(roots: &[PathBuf; 2], stop: &AtomicBool) {
    let name = |number: usize| format!("large-{number}");
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let expected = content(number, LARGE_BYTES);
        fs::write(roots[number % 2].join(name(number)), &expected).expect(WORKS);
        let found = fs::read(roots[1 - number % 2].join(name(number))).expect(WORKS);
        assert!(found == expected, "large file {number} is wrong");
        if number >= LARGE_FILES {
            fs::remove_file(roots[0].join(name(number - LARGE_FILES))).expect(WORKS);
        }
        number += 1;
    }
    for left in number.saturating_sub(LARGE_FILES)..number {
        fs::remove_file(roots[1].join(name(left))).expect(WORKS);
    }
}

/// Directories are filled, renamed with what is in them, listed by the other mount and removed there.
pub(super) fn directories(roots: &[PathBuf; 2], stop: &AtomicBool) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let made = roots[0].join(format!("made-{number}"));
        let moved = roots[0].join(format!("moved-{number}"));
        fs::create_dir(&made).expect(WORKS);
        for file in 0..TINY_FILES {
            let path = made.join(file.to_string());
            fs::write(&path, content(number + file, TINY_BYTES)).expect(WORKS);
            fs::rename(&path, made.join(format!("renamed-{file}"))).expect(WORKS);
        }
        fs::rename(&made, moved).expect(WORKS);
        let seen = roots[1].join(format!("moved-{number}"));
        assert_eq!(fs::read_dir(&seen).expect(WORKS).count(), TINY_FILES);
        for file in 0..TINY_FILES {
            let found = fs::read(seen.join(format!("renamed-{file}"))).expect(WORKS);
            assert!(
                found == content(number + file, TINY_BYTES),
                "{seen:?}/{file}"
            );
        }
        fs::remove_dir_all(&seen).expect(WORKS);
        number += 1;
    }
}
