//! What samovar is compared with: nginx with the same answers as files, nginx's cache in front of a registry, and a registry that
//! pulls through.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use samovar_testing::{Launch, Server, free_port};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// How often a port is tried.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const TRIES: usize = 500;

/// A server on a loopback port. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) host: String,
    _server: Server,
}

/// nginx with as many workers as there are processors: below `/static/` the files of `files`, else what it keeps of the
/// registry at `upstream`.
pub(crate) async fn nginx(files: &Path, upstream: &str) -> Running {
    let directory = Arc::new(TempDir::with_prefix("nginx-").expect("a temporary directory can be made"));
    let (path, port) = (directory.path().display().to_string(), free_port());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {path}/{kind};\n"))
        .concat();
    let configuration = format!(
        "daemon off;\nworker_processes {workers};\npid {path}/pid;\nevents {{ worker_connections 4096; }}\nhttp {{\n{temporary}  \
         access_log off;\n  sendfile on;\n  tcp_nopush on;\n  keepalive_requests 100000000;\n  open_file_cache max=1000;\n  \
         proxy_cache_path {path}/cache keys_zone=registry:10m;\n  upstream registry {{ server {upstream}; keepalive 16; }}\n  \
         server {{\n    listen 127.0.0.1:{port} backlog=1024;\n    location /static/ {{\n      alias {files}/;\n      \
         default_type application/json;\n    }}\n    location / {{\n      proxy_pass http://registry;\n      \
         proxy_http_version 1.1;\n      proxy_set_header Connection '';\n      proxy_cache registry;\n      \
         proxy_cache_lock on;\n      proxy_cache_valid 200 1h;\n      proxy_cache_key $uri$is_args$args;\n    }}\n  }}\n}}\n",
        files = files.display(),
    );
    let file = directory.path().join("nginx.conf");
    std::fs::write(&file, configuration).expect("a file can be written");
    let launch = Launch::of_package("nginx", "nginx").arguments(["-e", "stderr", "-p", &path, "-c"]);
    let launch = launch.arguments([file.into_os_string()]);
    let server = Server::start(&launch, directory);
    listening(format!("127.0.0.1:{port}"), server).await
}

/// docker-registry that pulls through from the registry at `upstream`.
pub(crate) async fn pull_through(upstream: &str) -> Running {
    let directory =
        Arc::new(TempDir::with_prefix("pull-through-").expect("a temporary directory can be made"));
    let (path, port) = (directory.path().display(), free_port());
    let configuration = format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
         rootdirectory: {path}/data\nhttp:\n  addr: 127.0.0.1:{port}\n  secret: only for benchmarks\nproxy:\n  \
         remoteurl: http://{upstream}\n",
    );
    let file = directory.path().join("config.yml");
    std::fs::write(&file, configuration).expect("a file can be written");
    let launch = Launch::of_package("docker-registry", "docker-registry")
        .without_variables("REGISTRY_")
        .without_variables("OTEL_")
        .arguments(["serve".into(), file.into_os_string()]);
    let server = Server::start(&launch, Arc::clone(&directory));
    listening(format!("127.0.0.1:{port}"), server).await
}

async fn listening(host: String, mut server: Server) -> Running {
    for _ in 0..TRIES {
        if TcpStream::connect(&host).await.is_ok() {
            return Running { host, _server: server };
        }
        assert!(server.ended().is_none(), "it does not start:\n{}", server.stderr());
        tokio::time::sleep(LOOK_EVERY).await;
    }
    panic!("nobody listens on {host}:\n{}", server.stderr());
}
