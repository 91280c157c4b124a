//! A certificate for a test's server, and the authority that signed it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::server::find_program;

/// Files in a directory of their own.
#[derive(Debug)]
pub(super) struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// Makes an authority, and a certificate by it for `localhost` and `127.0.0.1`.
    pub(super) fn make() -> Self {
        let directory = TempDir::with_prefix("certificates-").expect("a temporary directory can be made");
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout"];
        let openssl = |arguments: &[&str]| {
            let output = Command::new(find_program("openssl", "openssl"))
                .args(arguments)
                .current_dir(directory.path())
                .stdin(Stdio::null())
                .output()
                .expect("`openssl` can be run");
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "openssl {arguments:?}: {text}");
        };
        let authority =
            ["authority.key", "-x509", "-days", "2", "-subj", "/CN=an authority", "-out", "authority.pem"];
        openssl(&[&["req"], &key[..], &authority].concat());
        let names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
        let request = ["server.key", "-subj", "/CN=a server", "-addext", names, "-out", "server.csr"];
        openssl(&[&["req"], &key[..], &request].concat());
        let by_authority = ["-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial"];
        let certificate = ["-copy_extensions", "copy", "-days", "2", "-out", "server.pem"];
        openssl(&[&["x509", "-req", "-in", "server.csr"], &by_authority[..], &certificate].concat());
        Self { directory }
    }

    /// The authority's certificate.
    pub(super) fn authority(&self) -> PathBuf {
        self.directory.path().join("authority.pem")
    }

    /// What tells `redis-server` its files.
    pub(super) fn server_arguments(&self) -> Vec<OsString> {
        let file = |name: &str| self.directory.path().join(name).into_os_string();
        vec![
            "--tls-cert-file".into(),
            file("server.pem"),
            "--tls-key-file".into(),
            file("server.key"),
            "--tls-ca-cert-file".into(),
            file("authority.pem"),
            "--tls-auth-clients".into(),
            "no".into(),
        ]
    }
}
