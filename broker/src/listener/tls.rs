//! The certificate of the broker: given as files and read again when they change, or made at start and kept in
//! memory only. Clients of messaging protocols mostly trust any certificate (protocol section 7.0).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// Changed files are noticed by the first connection after this long.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Where the certificate comes from.
#[derive(Debug, Clone)]
pub(crate) enum CertificateSource {
    /// Made at start for these host names and addresses.
    SelfMade(Vec<String>),
    /// PEM files: the chain, and the private key.
    Files { chain: PathBuf, key: PathBuf },
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot read {what} from {path}: {reason}; give a PEM file")]
    File { what: &'static str, path: PathBuf, reason: String },
    #[error("the certificate and the private key do not work together: {0}")]
    Pair(rustls::Error),
    #[error("cannot make a certificate: {0}")]
    Make(rcgen::Error),
}

/// The current certificate.
#[derive(Debug)]
pub(crate) struct Tls {
    source: CertificateSource,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// Of the files that were looked at last; none while one of them is gone.
    version: Option<FileVersions>,
    checked: Instant,
}

/// Tells a new file from the one that was read.
type FileVersions = [(SystemTime, u64); 2];

impl Tls {
    /// Reads or makes the certificate.
    ///
    /// # Errors
    /// [`TlsError`] naming the file.
    pub(crate) fn new(source: CertificateSource) -> Result<Self, TlsError> {
        let version = file_versions(&source);
        let config = load(&source)?;
        let current = Mutex::new(Current { config, version, checked: Instant::now() });
        Ok(Self { source, current })
    }

    /// For the next handshake. New files that do not work, and files that are gone, are told of once, and the old
    /// certificate stays.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let is_read = matches!(self.source, CertificateSource::Files { .. });
        if is_read && current.checked.elapsed() >= CHECK_INTERVAL {
            current.checked = Instant::now();
            self.reload(&mut current);
        }
        TlsAcceptor::from(Arc::clone(&current.config))
    }

    fn reload(&self, current: &mut Current) {
        let version = file_versions(&self.source);
        if version == current.version {
            return;
        }
        match load(&self.source) {
            Ok(config) => {
                current.config = config;
                tracing::info!("the TLS certificate was read again");
            }
            Err(error) => {
                tracing::error!(%error, "the new TLS certificate is not used; the old one stays");
            }
        }
        current.version = version;
    }
}

fn file_versions(source: &CertificateSource) -> Option<FileVersions> {
    let CertificateSource::Files { chain, key } = source else { return None };
    let version = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    Some([version(chain)?, version(key)?])
}

fn load(source: &CertificateSource) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = match source {
        CertificateSource::SelfMade(names) => make(names)?,
        CertificateSource::Files { chain, key } => (read_chain(chain)?, read_key(key)?),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(TlsError::Pair)?;
    Ok(Arc::new(config))
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn make(names: &[String]) -> Result<Pair, TlsError> {
    let key = KeyPair::generate().map_err(TlsError::Make)?;
    let mut wanted = CertificateParams::new(names).map_err(TlsError::Make)?;
    // Who trusts the certificates of several brokers tells them apart by this name.
    let begin: String = key.public_key_raw().iter().take(16).map(|b| format!("{b:02x}")).collect();
    wanted.distinguished_name.push(DnType::CommonName, format!("Pinnace broker {begin}"));
    let made = wanted.self_signed(&key).map_err(TlsError::Make)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok((vec![made.der().clone()], key.into()))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fail = |reason| TlsError::File { what: "a certificate", path: path.to_owned(), reason };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| fail(error.to_string()))?;
    if chain.is_empty() { Err(fail("no certificate in it".to_owned())) } else { Ok(chain) }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| TlsError::File {
        what: "a private key",
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_pair(folder: &Path, name: &str) -> CertificateSource {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (chain, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        std::fs::write(&chain, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        CertificateSource::Files { chain, key }
    }

    fn let_the_interval_pass(tls: &Tls) {
        let past = Instant::now().checked_sub(CHECK_INTERVAL).unwrap();
        tls.current.lock().unwrap().checked = past;
    }

    #[test]
    fn no_two_certificates_that_are_made_have_the_same_name() {
        let name = || {
            let (chain, _) = make(&["localhost".to_owned()]).unwrap();
            let begin = b"Pinnace broker ";
            let at = chain[0].windows(begin.len()).position(|bytes| bytes == begin).unwrap();
            chain[0][at..at + begin.len() + 32].to_vec()
        };
        assert_ne!(name(), name());
    }

    #[test]
    fn changed_files_are_used_and_broken_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let tls = Tls::new(write_pair(folder.path(), "first.example")).unwrap();
        let config = |tls: &Tls| Arc::clone(tls.acceptor().config());
        let first = config(&tls);
        write_pair(folder.path(), "second-name.example");
        assert!(Arc::ptr_eq(&first, &config(&tls)), "not looked at before the interval is over");
        let_the_interval_pass(&tls);
        let second = config(&tls);
        assert!(!Arc::ptr_eq(&first, &second));
        std::fs::write(folder.path().join("tls.crt"), "no certificate").unwrap();
        let_the_interval_pass(&tls);
        assert!(Arc::ptr_eq(&second, &config(&tls)), "the old one stays");
        std::fs::remove_file(folder.path().join("tls.key")).unwrap();
        let_the_interval_pass(&tls);
        assert!(Arc::ptr_eq(&second, &config(&tls)), "also without files");
        write_pair(folder.path(), "third.example");
        let_the_interval_pass(&tls);
        assert!(!Arc::ptr_eq(&second, &config(&tls)), "files that come back are read");
    }

    #[test]
    fn a_missing_file_is_named() {
        let source =
            CertificateSource::Files { chain: "/no/such.crt".into(), key: "/no/such.key".into() };
        let text = Tls::new(source).unwrap_err().to_string();
        assert!(text.contains("/no/such.crt"), "{text}");
    }
}
