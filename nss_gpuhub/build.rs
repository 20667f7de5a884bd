//! Link arguments of the NSS library alone.

fn main() {
    // glibc looks for `libnss_<service>.so.2`, and ldconfig goes by the soname.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libnss_gpuhub.so.2");
    // All symbols are bound when the library is loaded: nothing is looked up in the middle of a
    // login, and the tables are read-only after.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,now");
    // It never goes away: there is a fork handler in it, and mappings that others may still read.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=build.rs");
}
