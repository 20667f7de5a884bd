//! Which numbers may be a person's or a group's id.

/// Ids below this belong to the image's own system accounts (Debian policy 9.2.2: 0–999).
pub const FIRST_PERSON: u32 = 1000;

/// What is never given, first and last: 0 and the system ids; systemd's dynamic users and
/// container-internal ids (GHSA-6gp8-pp9v-gx45); nobody, and `-1` to some system call; `-1` to the others.
pub const NEVER: [(u32, u32); 4] = [(0, FIRST_PERSON - 1), (61184, 65519), (65534, 65535), (u32::MAX, u32::MAX)];

/// Whether `id` may ever be given to a person or a group of ours: none of [`NEVER`].
///
/// Both sides ask: the broker before it stores an id, the client before it believes one.
#[inline]
pub const fn is_allowed(id: u32) -> bool {
    const fn within(id: u32, (first, last): (u32, u32)) -> bool {
        first <= id && id <= last
    }
    let [system, dynamic, nobody, minus_one] = NEVER;
    !(within(id, system) || within(id, dynamic) || within(id, nobody) || within(id, minus_one))
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn never_given() {
        for id in [0, 1, 33, 999, 61184, 65000, 65519, 65534, 65535, u32::MAX] {
            assert!(!is_allowed(id), "{id}");
        }
        for id in [1000, 20001, 61183, 65520, 65536, 1_000_000_000, u32::MAX - 1] {
            assert!(is_allowed(id), "{id}");
        }
    }
}
