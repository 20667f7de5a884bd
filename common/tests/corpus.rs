//! The inputs that the fuzzer kept, through the same questions, without the fuzzer.
#![allow(unsafe_code)] // a view over the test's own memory
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // shared with the fuzzer, which has no #[test]

#[path = "../../fuzz/src/exercise.rs"]
mod exercise;

use std::path::Path;

#[test]
fn every_kept_input_of_the_fuzzer() {
    let kept = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../fuzz/corpus/snapshot_view");
    let mut ran = 0;
    for entry in std::fs::read_dir(kept).unwrap() {
        exercise::exercise(&std::fs::read(entry.unwrap().path()).unwrap());
        ran += 1;
    }
    assert!(ran >= 50, "{ran} inputs");
}
