//! Before and around every handler: refusing what a browser on another site could send, and counting.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, Uri, header};
use tokio::time::Instant;

use super::Doors;
use super::problem::{Problem, ProblemType};

/// Refuses requests that a page of another site may have made a browser send: by a name that was rebound to this
/// machine (`Host`), or across sites (`Origin`).
pub(super) async fn check(
    State(doors): State<Arc<Doors>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let host = host(request.uri(), request.headers());
    let headers = request.headers();
    let is_ours = |host: &str| {
        names_this_machine(host)
            || doors.oci.serves_host(host)
            || is_external(&doors, host)
            // No name that was rebound.
            || !doors.loopback_only && is_address(host)
    };
    let is_checked = doors.loopback_only || !doors.external_hosts.is_empty();
    if is_checked && !host.as_deref().is_some_and(is_ours) {
        let detail = if doors.loopback_only {
            "samovar listens on this machine only: ask it as localhost or by a loopback address"
        } else {
            "this is none of the names by which samovar is asked: see external_hosts"
        };
        return Err(Problem::new(ProblemType::ForbiddenOrigin, detail));
    }
    if let Some(origin) = text(headers, header::ORIGIN)
        && origin.split_once("://").map(|(_, authority)| authority) != host.as_deref()
    {
        return Err(Problem::new(ProblemType::ForbiddenOrigin, "the Origin is not the Host"));
    }
    Ok(next.run(request).await)
}

/// The name by which a client asks for us.
pub(super) fn host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    uri.authority().map(ToString::to_string).or_else(|| text(headers, header::HOST))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Whether clients may ask by this name, with or without a port.
fn is_external(doors: &Doors, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let authority: Option<http::uri::Authority> = host.parse().ok();
    doors.external_hosts.contains(&host)
        || authority.is_some_and(|authority| doors.external_hosts.contains(authority.host()))
}

fn is_address(host: &str) -> bool {
    let authority: Result<http::uri::Authority, _> = host.parse();
    authority.is_ok_and(|authority| authority.host().trim_matches(['[', ']']).parse::<IpAddr>().is_ok())
}

fn names_this_machine(host: &str) -> bool {
    let authority: Result<http::uri::Authority, _> = host.parse();
    let Ok(authority) = authority else { return false };
    let name = authority.host();
    let address: Result<IpAddr, _> = name.trim_start_matches('[').trim_end_matches(']').parse();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Goes with a response that is counted as another route than the router has: many of ours are one of the router's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted(pub(super) &'static str);

/// Counts and times every answer, by route: never by path, which anyone can make up.
pub(super) async fn count(State(doors): State<Arc<Doors>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let counted = response.extensions().get::<Counted>().map(|counted| counted.0);
    let route =
        counted.or(route.as_ref().map(MatchedPath::as_str)).unwrap_or(super::ROUTES[super::ROUTES.len() - 1]);
    doors.metrics.answered(route, response.status().as_u16(), started.elapsed());
    response
}

#[cfg(test)]
mod tests {
    use super::names_this_machine;

    #[test]
    fn only_loopback_names_are_this_machine() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.8.9.1", "[::1]:8080", "[::1]"] {
            assert!(names_this_machine(host), "{host}");
        }
        for host in ["example.com", "localhost.example.com", "10.0.0.1", "[2001:db8::1]:80", "", "a b"] {
            assert!(!names_this_machine(host), "{host}");
        }
    }
}
