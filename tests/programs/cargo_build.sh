#!/usr/bin/env bash
# cargo_build.sh MOUNT: a small crate is built with its target directory on the mount, offline.
#
# Incremental compilation links, maps, locks and renames; what has not changed must not be built
# again, or times are wrong.
set -euo pipefail

work=$(mktemp -d "$(realpath "$1")/cargo_build.XXXXXX")
trap 'rm -rf "$work"' EXIT
export CARGO_TARGET_DIR=$work/target CARGO_TERM_COLOR=never CARGO_NET_OFFLINE=true
unset RUSTFLAGS CARGO_BUILD_TARGET
mkdir -p "$work/hello/src"
cd "$work/hello"
cat >Cargo.toml <<'TOML'
[package]
name = "hello"
version = "0.1.0"
edition = "2021"

[workspace]
TOML
cat >build.rs <<'RUST'
fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    std::fs::write(format!("{out}/made.rs"), "pub const MADE: u32 = 41;").unwrap();
    println!("cargo:rerun-if-changed=build.rs");
}
RUST
cat >src/lib.rs <<'RUST'
include!(concat!(env!("OUT_DIR"), "/made.rs"));
pub fn answer() -> u32 { MADE + 1 }
#[test]
fn answers() { assert_eq!(answer(), 42); }
RUST
echo 'fn main() { println!("answer {}", hello::answer()); }' >src/main.rs

cargo build --quiet --offline
[ "$("$work/target/debug/hello")" = 'answer 42' ]
cargo build --offline 2>"$work/again"
if grep Compiling "$work/again"; then
    exit 1
fi
sed -i 's/+ 1/+ 2/' src/lib.rs
cargo build --offline 2>"$work/changed"
grep -q 'Compiling hello' "$work/changed"
[ "$("$work/target/debug/hello")" = 'answer 43' ]
sed -i 's/+ 2/+ 1/' src/lib.rs
cargo test --quiet --offline --lib >/dev/null
cargo clean --quiet
[ ! -e "$work/target/debug" ]
echo "cargo: built, found nothing to build, built what had changed, tested and cleaned"
