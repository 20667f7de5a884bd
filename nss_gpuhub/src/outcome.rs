//! How a call ends, in glibc's words (nss.h).

/// Why a call has no entry for its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Miss {
    /// There is none, or none that may be served.
    NotFound,
    /// It cannot be known now. Never told as "no such user".
    Unavailable,
    /// It does not fit: the caller comes back with a larger buffer.
    TooSmall,
    /// No memory for a list.
    NoMemory,
}

/// NSS_STATUS_SUCCESS.
pub(crate) const SUCCESS: libc::c_int = 1;

impl Miss {
    /// The status and the errno beside it. TRYAGAIN with ERANGE makes the caller grow its buffer,
    /// so ERANGE stands beside nothing else. EAGAIN, unlike ENOENT, does not read as "no such
    /// user" in getpwnam_r(3).
    pub(crate) const fn status(self) -> (libc::c_int, libc::c_int) {
        match self {
            Miss::NotFound => (0, libc::ENOENT),
            Miss::Unavailable => (-1, libc::EAGAIN),
            Miss::TooSmall => (-2, libc::ERANGE),
            Miss::NoMemory => (-2, libc::ENOMEM),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_small_buffer_is_erange() {
        let all = [Miss::NotFound, Miss::Unavailable, Miss::TooSmall, Miss::NoMemory];
        let erange: Vec<Miss> = all.into_iter().filter(|m| m.status().1 == libc::ERANGE).collect();
        assert_eq!(erange, [Miss::TooSmall]);
        assert!(all.iter().all(|m| m.status().0 != SUCCESS));
    }
}
