//! Link arguments of the module.

fn main() {
    // libpam is named again behind pam-bindings' own `#[link]`, so that NEEDED libpam.so.0 does not
    // hang on a dependency's attribute: a host that opens libpam itself by dlopen (Python's pamela,
    // so JupyterHub) has not its symbols in the global scope, and could not load us.
    for arg in ["-Wl,--push-state,--no-as-needed", "-lpam", "-Wl,--pop-state"] {
        println!("cargo::rustc-cdylib-link-arg={arg}");
    }
    // All symbols are bound when the module is loaded: a missing one is a load error that PAM
    // reports, not a crash in the midst of a login.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,now");
    println!("cargo::rerun-if-changed=build.rs");
}
