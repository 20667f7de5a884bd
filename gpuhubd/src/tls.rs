//! The one TLS configuration: the system's CA store, the configured CA, TLS 1.2 and 1.3 by rustls
//! with ring, server name always checked.

use gpuhub_common::secret::Secret;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// The certificates of a PEM text.
pub fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect()
}

/// What one connection has of its own.
#[derive(Debug, Default)]
pub struct Own<'a> {
    /// PEM file of CAs.
    pub ca_file: Option<&'a str>,
    /// Directory of such files, whatever they are called.
    pub ca_dir: Option<&'a str>,
    /// The client's certificate chain (a PEM file) and its key (PEM).
    pub certificate: Option<(&'a str, &'a Secret)>,
}

/// A client configuration that trusts the system's store and what `ca_file` has.
pub fn client_config(ca_file: Option<&str>) -> Result<Arc<ClientConfig>, String> {
    config_with(&Own { ca_file, ..Own::default() })
}

/// A client configuration that trusts the system's store and the CAs of `own`.
pub fn config_with(own: &Own<'_>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    // Images without ca-certificates are usual; then only the configured CA is trusted.
    roots.add_parsable_certificates(system());
    own.config(roots)
}

impl Own<'_> {
    /// Whether a configuration can be made of it; without the system's store, which takes its time to read.
    pub fn check(&self) -> Result<(), String> {
        self.config(RootCertStore::empty()).map(|_| ())
    }

    /// With whom is trusted already.
    fn config(&self, mut roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
        roots.add_parsable_certificates(self.authorities()?);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots);
        Ok(Arc::new(match self.certificate {
            None => config.with_no_client_auth(),
            Some((path, key)) => {
                let pem = std::fs::read(path).map_err(|e| format!("client_cert_file {path} cannot be read: {e}"))?;
                let key =
                    PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| "client_key_file has no private key")?;
                let fit = config.with_client_auth_cert(certificates(&pem), key);
                fit.map_err(|e| format!("client_cert_file {path} and client_key_file: {e}"))?
            }
        }))
    }

    /// The CAs of file and directory. One of which nothing is a certificate is an error: it would only be noticed at
    /// the first login.
    fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let mut all = Vec::new();
        if let Some(path) = self.ca_file {
            let pem = std::fs::read(path).map_err(|e| format!("ca_file {path} cannot be read: {e}"))?;
            all = certificates(&pem);
            if all.is_empty() {
                return Err(format!("ca_file {path} has no certificate"));
            }
        }
        if let Some(path) = self.ca_dir {
            let files = std::fs::read_dir(path).map_err(|e| format!("ca_dir {path} cannot be read: {e}"))?;
            let before = all.len();
            // What is no file (a FIFO would be waited for), or not for us to read, is not for us.
            let files = files.flatten().map(|f| f.path()).filter(|path| path.is_file());
            all.extend(files.filter_map(|path| std::fs::read(path).ok()).flat_map(|pem| certificates(&pem)));
            if all.len() == before {
                return Err(format!("ca_dir {path} has no certificate"));
            }
        }
        Ok(all)
    }
}

/// Where distributions keep the whole store in one file. To read the files of the single CAs beside it
/// as well, as the crate does, takes ten times as long, at every start.
const BUNDLES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// The system's CA store.
fn system() -> Vec<CertificateDer<'static>> {
    let elsewhere = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some());
    let bundle = if elsewhere { None } else { BUNDLES.iter().find_map(|path| std::fs::read(path).ok()) };
    match bundle.map(|pem| certificates(&pem)) {
        Some(found) if !found.is_empty() => found,
        _ => rustls_native_certs::load_native_certs().certs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_file_has_what_the_directory_has() {
        let all = rustls_native_certs::load_native_certs().certs;
        let ours = system();
        assert!(!all.is_empty(), "ca-certificates is not installed");
        assert!(all.iter().all(|ca| ours.contains(ca)), "{} of {}", ours.len(), all.len());
    }
}
