//! The one TLS configuration: the system's CA store, the configured CA, TLS 1.2 and 1.3 by rustls
//! with ring, server name always checked.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// The certificates of a PEM text.
pub fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect()
}

/// A client configuration that trusts the system's store and what `ca_file` has.
pub fn client_config(ca_file: Option<&str>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    // Images without ca-certificates are usual; then only the configured CA is trusted.
    roots.add_parsable_certificates(system());
    if let Some(path) = ca_file {
        let pem = std::fs::read(path).map_err(|e| format!("ca_file {path} cannot be read: {e}"))?;
        let (added, _) = roots.add_parsable_certificates(certificates(&pem));
        if added == 0 {
            return Err(format!("ca_file {path} has no certificate"));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The system's CA store. Debian has it twice, as one file and as 140, and to read both, as the
/// crate would, takes much of the broker's start. The usual variables still choose another.
fn system() -> Vec<CertificateDer<'static>> {
    const ONE_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";
    let chosen = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some());
    match std::fs::read(ONE_FILE) {
        Ok(pem) if !chosen => certificates(&pem),
        _ => rustls_native_certs::load_native_certs().certs,
    }
}
