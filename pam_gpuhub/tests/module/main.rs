//! The module as PAM loads it: `libpam_gpuhub.so` in a real stack, driven by pamtester, or by a
//! host that converses as JupyterHub does, against a scripted broker on the real socket.
//!
//! Runs as root, in private mount namespaces (`space`); the machine's own configuration stays
//! untouched. Needs pamtester, unshare (util-linux) and binutils.
#![allow(missing_docs)]
// As in clippy.toml, for the harness around the tests too: a panic here is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod hub;
mod login;
mod password;
mod session;
mod space;
mod stack;

use space::Space;

/// What the link law and dlopen(3) want of the file.
#[test]
fn exports_exactly_the_six_hooks_and_names_libpam() {
    let so = Space::module();
    let symbols = space::output("nm", &["-D", "--defined-only", &so]);
    let mut names: Vec<&str> = symbols.lines().filter_map(|line| line.split(' ').next_back()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "pam_sm_acct_mgmt",
            "pam_sm_authenticate",
            "pam_sm_chauthtok",
            "pam_sm_close_session",
            "pam_sm_open_session",
            "pam_sm_setcred"
        ]
    );
    let dynamic = space::output("readelf", &["-d", &so]);
    assert!(dynamic.contains("[libpam.so.0]") && dynamic.contains("BIND_NOW"), "{dynamic}");
}
