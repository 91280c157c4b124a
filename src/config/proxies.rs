//! The proxies that the environment names, as most programs read it.

use samovar_registry::upstream::{EnvironmentProxies, ProxyUrl};

use super::error::Problems;
use super::flags::{Environment, variable};

/// What the usual variables say, in upper case first. A proxy that cannot be one is a problem: passing over it could
/// mean to ask directly what must not be.
pub(super) fn environment_proxies(
    environment: Environment<'_>,
    problems: &mut Problems,
) -> EnvironmentProxies {
    let mut proxy = |name: &str| -> Option<ProxyUrl> {
        let setting = either_case(environment, name)?;
        problems.keep(&setting.origin, setting.value.parse())
    };
    let all = proxy("ALL_PROXY");
    EnvironmentProxies {
        http: proxy("HTTP_PROXY").or_else(|| all.clone()),
        https: proxy("HTTPS_PROXY").or(all),
        no_proxy: either_case(environment, "NO_PROXY").map(|setting| setting.value).unwrap_or_default(),
    }
}

fn either_case(environment: Environment<'_>, name: &str) -> Option<super::settings::Setting> {
    variable(environment, name).or_else(|| variable(environment, &name.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (EnvironmentProxies, Problems) {
        let environment = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let mut problems = Problems::default();
        (environment_proxies(&environment, &mut problems), problems)
    }

    fn url(text: &str) -> ProxyUrl {
        text.parse().unwrap()
    }

    #[test]
    fn the_usual_variables() {
        for (variables, http, https, no_proxy) in [
            (&[][..], None, None, ""),
            (&[("HTTPS_PROXY", "http://p:1"), ("https_proxy", "q:1")], None, Some("http://p:1"), ""),
            (&[("http_proxy", "p:1"), ("no_proxy", "a,b")], Some("p:1"), None, "a,b"),
            (&[("ALL_PROXY", "p:1"), ("HTTP_PROXY", "q:1")], Some("q:1"), Some("p:1"), ""),
            (&[("HTTPS_PROXY", ""), ("https_proxy", "q:1")], None, Some("q:1"), ""),
        ] {
            let (proxies, problems) = read(variables);
            let expected = EnvironmentProxies {
                http: http.map(url),
                https: https.map(url),
                no_proxy: no_proxy.to_owned(),
            };
            assert_eq!(proxies, expected);
            assert!(problems.none_or(()).is_ok());
        }
    }

    #[test]
    fn a_broken_one_is_refused_and_not_quoted() {
        let (_, problems) = read(&[("HTTPS_PROXY", "ftp://alice:sesame@p:1")]);
        let error = problems.none_or(()).unwrap_err().to_string();
        assert!(error.contains("variable HTTPS_PROXY: a proxy is spoken to by"), "{error}");
        assert!(!error.contains("sesame"));
    }
}
