//! An authority, and certificates by it for a test's server and client.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::server::find_program;

/// PEM files in a directory of their own: `authority.pem`, `server.pem` and `server.key`, `client.pem` and `client.key`.
#[derive(Debug)]
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// Makes an authority, a certificate by it for a server at `localhost`, `127.0.0.1` and `::1`, and one for a client.
    pub fn make() -> Self {
        let certificates = Self {
            directory: TempDir::with_prefix("certificates-").expect("a temporary directory can be made"),
        };
        let authority =
            ["authority.key", "-x509", "-days", "2", "-subj", "/CN=an authority", "-out", "authority.pem"];
        certificates.openssl(&[&NEW_KEY[..], &authority].concat());
        certificates.sign("server", "DNS:localhost,IP:127.0.0.1,IP:::1");
        certificates.sign("client", "DNS:client.example");
        certificates
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.file("authority.pem")
    }

    /// One of the files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn sign(&self, name: &str, alternative_names: &str) {
        let (key, request, certificate) =
            (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        let (subject, names) = (format!("/CN=a {name}"), format!("subjectAltName={alternative_names}"));
        let asked = [&key, "-subj", &subject, "-addext", &names, "-out", &request];
        self.openssl(&[&NEW_KEY[..], &asked].concat());
        let authority = ["-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial"];
        let signed = ["-copy_extensions", "copy", "-days", "2", "-out", &certificate];
        self.openssl(&[&["x509", "-req", "-in", &request], &authority[..], &signed].concat());
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new(find_program("openssl", "openssl"))
            .args(arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .output()
            .expect("`openssl` can be run");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments:?}: {text}");
    }
}

/// Followed by the file that the key goes to.
const NEW_KEY: [&str; 7] =
    ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout"];
