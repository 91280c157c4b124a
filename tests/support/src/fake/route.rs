//! What a method and a path ask for.

use super::record::RequestKind;

/// A request, understood. Repositories contain slashes, so paths are read from the right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) kind: RequestKind,
    pub(super) repository: Option<String>,
    pub(super) reference: Option<String>,
}

impl Route {
    pub(super) fn of(method: &str, path: &str) -> Self {
        let path = path.replace("%3A", ":").replace("%3a", ":");
        match (method, path.as_str()) {
            ("GET" | "POST", "/token") => return Self::without_repository(RequestKind::Token),
            ("GET", "/v2/_catalog") => return Self::without_repository(RequestKind::Catalog),
            ("GET" | "HEAD", "/v2/" | "/v2") => return Self::without_repository(RequestKind::Ping),
            _ => {}
        }
        Self::in_repository(method, &path).unwrap_or_else(|| Self::without_repository(RequestKind::Other))
    }

    fn in_repository(method: &str, path: &str) -> Option<Self> {
        let path = path.strip_prefix("/v2/")?;
        let (repository, kind, reference) = if let Some(repository) = path.strip_suffix("/tags/list") {
            (repository, (method == "GET").then_some(RequestKind::Tags)?, None)
        } else if let Some((repository, reference)) = path.rsplit_once("/manifests/") {
            let kind = match method {
                "GET" => RequestKind::ManifestGet,
                "HEAD" => RequestKind::ManifestHead,
                _ => return None,
            };
            (repository, kind, Some(reference))
        } else {
            let (repository, digest) = path.rsplit_once("/blobs/")?;
            (repository, matches!(method, "GET" | "HEAD").then_some(RequestKind::Blob)?, Some(digest))
        };
        Some(Self { kind, repository: Some(repository.to_owned()), reference: reference.map(str::to_owned) })
    }

    fn without_repository(kind: RequestKind) -> Self {
        Self { kind, repository: None, reference: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_the_right() {
        let route = |method, path| {
            let route = Route::of(method, path);
            (route.kind, route.repository, route.reference)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(route("GET", "/v2/"), (RequestKind::Ping, None, None));
        assert_eq!(route("GET", "/v2/_catalog"), (RequestKind::Catalog, None, None));
        for method in ["GET", "POST"] {
            assert_eq!(route(method, "/token"), (RequestKind::Token, None, None));
        }
        assert_eq!(route("GET", "/v2/a/b/tags/list"), (RequestKind::Tags, some("a/b"), None));
        assert_eq!(route("GET", "/v2/a/manifests/v1"), (RequestKind::ManifestGet, some("a"), some("v1")));
        assert_eq!(
            route("HEAD", "/v2/a/manifests/b/manifests/sha256%3Aab"),
            (RequestKind::ManifestHead, some("a/manifests/b"), some("sha256:ab"))
        );
        assert_eq!(route("GET", "/v2/a/blobs/sha256:ab"), (RequestKind::Blob, some("a"), some("sha256:ab")));
        assert_eq!(route("GET", "/v2/tags/list"), (RequestKind::Other, None, None));
        assert_eq!(route("PUT", "/v2/a/manifests/v1"), (RequestKind::Other, None, None));
    }
}
