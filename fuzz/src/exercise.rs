//! Whatever bytes a snapshot has, a reader neither crashes nor finds what it did not ask for.
//!
//! The first byte says whether the rest is taken as it is or gets a header that is accepted, so
//! that what lies behind it is reached. The address sanitizer sees reads past the end: the file is
//! copied to an allocation of just its length. Shared by the fuzzer and by the test that runs the
//! kept inputs (common/tests/corpus.rs).

use gpuhub_common::snapshot::{Lookup, Out, View, format, now_ms};
use std::mem::MaybeUninit;

/// Asks everything there is to ask.
pub fn exercise(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    // As mmap(2) gives it: aligned.
    let mut words: Vec<u64> = bytes.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().unwrap())).collect();
    if how & 1 == 1 && words.len() >= 3 {
        words[0] = u64::from_le_bytes(format::MAGIC);
        words[1] = u64::from(format::VERSION) | (format::HEADER as u64) << 32;
        words[2] = words.len() as u64 * 8;
    }
    // SAFETY: the words outlive the view, and nobody writes them.
    let Ok(view) = (unsafe { View::new(words.as_ptr().cast(), words.len() * 8) }) else { return };
    let mut memory = vec![MaybeUninit::uninit(); if how & 2 == 0 { 4096 } else { 40 }];
    let mut out = Out::new(&mut memory);
    let (mut names, mut ids) = (vec![b"u00001".to_vec(), b"g0000".to_vec(), vec![b'x'; 64]], vec![1_000_000_001, 7]);

    for first in (0..view.users().min(8)).chain([view.users(), u32::MAX]) {
        let mut n = first;
        if let Lookup::Found(e) = view.user_at(&mut n, &mut out) {
            assert!(n >= first);
            assert_eq!(out.bytes().len(), e.text_len());
            names.push(e.fields(out.bytes())[0].to_vec());
            ids.push(e.uid);
        }
    }
    for first in (0..view.groups().min(8)).chain([view.groups(), u32::MAX]) {
        let mut n = first;
        if let Lookup::Found(e) = view.group_at(&mut n, &mut out) {
            assert!(n >= first);
            assert_eq!(out.bytes().len(), e.text_len());
            assert_eq!(e.members(out.bytes()).count(), e.members);
            names.push(e.name(out.bytes()).to_vec());
            ids.push(e.gid);
        }
    }
    for name in &names {
        if let Lookup::Found(e) = view.user_by_name(name, &mut out) {
            assert_eq!(e.fields(out.bytes())[0], name);
        }
        if let Lookup::Found(e) = view.group_by_name(name, &mut out) {
            assert_eq!(e.name(out.bytes()), name);
        }
        if let Lookup::Found(gids) = view.group_ids_of(name) {
            assert!(gids.count() <= format::MAX_GIDS);
        }
    }
    for id in ids {
        assert!(!matches!(view.user_by_uid(id, &mut out), Lookup::Found(e) if e.uid != id));
        assert!(!matches!(view.group_by_gid(id, &mut out), Lookup::Found(e) if e.gid != id));
    }
    let _ = (view.is_fresh(now_ms()), view.is_login_program(b"sshd"), view.has_login_programs());
}
