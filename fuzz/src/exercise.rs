//! Whatever bytes a snapshot has, a reader neither crashes nor finds what it did not ask for.
//!
//! The first byte says how the rest is taken. 1: it gets a header that is accepted, so that what lies
//! behind it is reached. 2: the caller's buffer is small. 4: it begins with changes, which are made one
//! by one while questions are asked, as the broker makes them in a file that is in use, or a captured
//! one in its own way. The address sanitizer sees reads past the end: the file is copied to an
//! allocation of just its length. Shared by the fuzzer and by the test that runs the kept inputs
//! (common/tests/corpus.rs).

use gpuhub_common::name;
use gpuhub_common::snapshot::{GroupEntry, Lookup, Out, UserEntry, View, format, now_ms};
use std::mem::MaybeUninit;

/// Asks everything there is to ask.
pub fn exercise(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    let (mut changes, bytes) = if how & 4 == 0 { (Changes(&[]), bytes) } else { Changes::split_off(bytes) };
    // As mmap(2) gives it: aligned.
    let mut words: Vec<u64> = bytes.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().unwrap())).collect();
    if how & 1 == 1 && words.len() >= 3 {
        words[0] = u64::from_le_bytes(format::MAGIC);
        words[1] = u64::from(format::VERSION) | (format::HEADER as u64) << 32;
        words[2] = words.len() as u64 * 8;
    }
    let (base, len) = (words.as_mut_ptr(), words.len());
    // SAFETY: the words outlive the view; they are written between its questions, and only through the
    // pointer that it has too.
    let Ok(view) = (unsafe { View::new(base.cast(), len * 8) }) else { return };
    let mut change = || {
        if let Some((place, word)) = changes.next() {
            // SAFETY: inside of the words, as above.
            unsafe { base.add(place % len).write_volatile(word) };
        }
    };
    let mut memory = vec![MaybeUninit::uninit(); if how & 2 == 0 { 4096 } else { 40 }];
    let mut out = Out::new(&mut memory);
    let (mut names, mut ids) = (vec![b"u00001".to_vec(), b"g0000".to_vec(), vec![b'x'; 64]], vec![1_000_000_001, 7]);

    for first in (0..view.users().min(8)).chain([view.users(), u32::MAX]) {
        let mut n = first;
        change();
        if let Lookup::Found(e) = view.user_at(&mut n, &mut out) {
            assert!(n >= first);
            names.push(user(&e, &out));
            ids.push(e.uid);
        }
    }
    for first in (0..view.groups().min(8)).chain([view.groups(), u32::MAX]) {
        let mut n = first;
        change();
        if let Lookup::Found(e) = view.group_at(&mut n, &mut out) {
            assert!(n >= first);
            names.push(group(&e, &out));
            ids.push(e.gid);
        }
    }
    for name in &names {
        change();
        if let Lookup::Found(e) = view.user_by_name(name, &mut out) {
            assert_eq!(user(&e, &out), *name);
        }
        if let Lookup::Found(e) = view.group_by_name(name, &mut out) {
            assert_eq!(group(&e, &out), *name);
        }
        change();
        if let Lookup::Found(gids) = view.group_ids_of(name) {
            // In the middle of her list, too.
            let count = gids.inspect(|_| change()).count();
            assert!(count <= format::MAX_GIDS);
        }
    }
    for id in ids {
        change();
        if let Lookup::Found(e) = view.user_by_uid(id, &mut out) {
            assert_eq!((e.uid, user(&e, &out).is_empty()), (id, false));
        }
        if let Lookup::Found(e) = view.group_by_gid(id, &mut out) {
            assert_eq!((e.gid, group(&e, &out).is_empty()), (id, false));
        }
    }
    let _ = (view.is_fresh(now_ms()), view.is_login_program(b"sshd"), view.has_login_programs());
}

/// What packing relies on; and her name.
fn user(e: &UserEntry, out: &Out<'_>) -> Vec<u8> {
    assert_eq!(out.bytes().len(), e.text_len());
    let mut end = 0;
    for (field, len) in e.fields(out.bytes()).iter().zip(e.lens) {
        end += len + 1;
        assert_eq!((field.len(), out.bytes()[end - 1]), (len, 0));
    }
    e.fields(out.bytes())[0].to_vec()
}

/// The same of a group; and that its members are vetted in bulk as they are one by one.
fn group(e: &GroupEntry, out: &Out<'_>) -> Vec<u8> {
    assert_eq!(out.bytes().len(), e.text_len());
    assert_eq!(e.members(out.bytes()).count(), e.members);
    let mut nuls = 0;
    name::for_each_nul(e.members_text(out.bytes()), |_| nuls += 1);
    assert_eq!(nuls, e.members);
    let one_by_one = e.members(out.bytes()).all(name::is_user_name);
    assert_eq!(name::are_user_names(e.members_text(out.bytes())), one_by_one);
    e.name(out.bytes()).to_vec()
}

/// Words that are to be written, and where: two bytes of a place and eight of a word each.
struct Changes<'d>(&'d [u8]);

impl<'d> Changes<'d> {
    /// As many as the first byte says, and what follows them.
    fn split_off(data: &'d [u8]) -> (Self, &'d [u8]) {
        let Some((n, rest)) = data.split_first() else { return (Self(data), data) };
        let (changes, file) = rest.split_at(rest.len().min(usize::from(*n % 32) * 10));
        (Self(changes), file)
    }
}

impl Iterator for Changes<'_> {
    type Item = (usize, u64);

    fn next(&mut self) -> Option<(usize, u64)> {
        let (change, rest) = self.0.split_at_checked(10)?;
        self.0 = rest;
        let place = u16::from_le_bytes([change[0], change[1]]);
        Some((usize::from(place), u64::from_le_bytes(change[2..].try_into().ok()?)))
    }
}
