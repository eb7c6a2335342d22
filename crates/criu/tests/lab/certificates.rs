//! Certificates for TLS.

use std::path::PathBuf;

use stasis_criu::options::Tls;
use tempfile::TempDir;

use crate::programs::run;

/// An authority, and a certificate of the loopback's that it has signed.
pub struct Certificates(TempDir);

impl Certificates {
    /// New ones, made by openssl.
    pub fn new() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        let file = |name| made.file(name).into_os_string().into_string().unwrap();
        let (authority, its_key) = (file("authority.pem"), file("authority.key"));
        let (certificate, key) = (file("certificate.pem"), file("key.pem"));
        let new = [
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ];
        let new = [&["req"], &new[..], &["-nodes", "-days", "1"]].concat();
        let own = [
            "-subj",
            "/CN=authority",
            "-out",
            &authority,
            "-keyout",
            &its_key,
        ];
        run("openssl", &[&new[..], &own].concat());
        let signed = [
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ];
        let by = ["-CA", &authority, "-CAkey", &its_key];
        let to = ["-out", &certificate, "-keyout", &key];
        run("openssl", &[&new[..], &signed, &by, &to].concat());
        made
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// To show the certificate, and to take what the authority has signed.
    pub fn tls(&self) -> Tls {
        Tls::default()
            .cacert(self.file("authority.pem"))
            .cert(self.file("certificate.pem"))
            .key(self.file("key.pem"))
    }
}
