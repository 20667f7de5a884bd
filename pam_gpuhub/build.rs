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
    // Once loaded it stays: a program that logs many people in (JupyterHub) would load and bind it anew for each of
    // them, by pam_start(3) and pam_end(3), and thread-local values of Rust would outlive their code.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rerun-if-changed=build.rs");
}
