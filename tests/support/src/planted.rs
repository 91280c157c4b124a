//! Secrets that are planted, and the search for them in everything that comes out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use url::form_urlencoded;

/// The shortest form that is looked for: shorter ones stand anywhere.
const SHORTEST_FORM: usize = 6;
/// How much of what is around a secret is shown where it is found.
const SHOWN_AROUND: usize = 200;

/// Secrets in all the forms in which they may be shown by mistake: as they are, escaped in JSON, in a URL, in hexadecimal,
/// and in base64, also as a part of something longer.
#[derive(Debug, Clone)]
pub struct Planted {
    /// The secret, and one of its forms.
    forms: Vec<(String, String)>,
}

impl Planted {
    /// These secrets. They must be long enough not to stand anywhere by chance.
    pub fn new<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Self {
        let mut forms = Vec::new();
        for secret in secrets {
            let secret = secret.as_ref();
            assert!(secret.len() >= SHORTEST_FORM, "`{secret}` could stand anywhere");
            let mut of_this = vec![
                secret.to_owned(),
                serde_json::to_string(secret).expect("strings become JSON").trim_matches('"').to_owned(),
                form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
                secret.bytes().fold(String::new(), |text, byte| format!("{text}{byte:02x}")),
            ];
            for offset in 0..3 {
                let encoded = within_base64(secret, offset);
                of_this.push(encoded.replace('+', "-").replace('/', "_"));
                of_this.push(encoded);
            }
            of_this.sort_unstable();
            of_this.dedup();
            of_this.retain(|form| form.len() >= SHORTEST_FORM);
            forms.extend(of_this.into_iter().map(|form| (secret.to_owned(), form)));
        }
        Self { forms }
    }

    /// The first secret that stands in `bytes`, with what is around it.
    pub fn found_in(&self, bytes: &[u8]) -> Option<String> {
        let text = String::from_utf8_lossy(bytes);
        self.forms.iter().find_map(|(secret, form)| {
            let at = text.find(form.as_str())?;
            let start = text.floor_char_boundary(at.saturating_sub(SHOWN_AROUND));
            let end = text.ceil_char_boundary((at + form.len() + SHOWN_AROUND).min(text.len()));
            Some(format!("`{secret}` stands there as `{form}`: {}", &text[start..end]))
        })
    }

    /// Panics where one of the secrets stands in `bytes`, which came from `place`.
    #[track_caller]
    pub fn assert_absent(&self, place: &str, bytes: impl AsRef<[u8]>) {
        if let Some(found) = self.found_in(bytes.as_ref()) {
            panic!("{place}: {found}");
        }
    }
}

/// What is always the same in the base64 of anything that holds the secret behind so many bytes, modulo 3.
fn within_base64(secret: &str, offset: usize) -> String {
    let mut padded = vec![0; offset];
    padded.extend_from_slice(secret.as_bytes());
    // A character is six bits: those that hold bits of what comes before or after are left out.
    let first = (offset * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    STANDARD_NO_PAD.encode(&padded)[first..last].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "let it/steep+\"now\"";

    #[test]
    fn is_found_in_every_form() {
        let planted = Planted::new([SECRET]);
        for shown in [
            format!("password: {SECRET}!"),
            serde_json::json!({"password": SECRET}).to_string(),
            url::form_urlencoded::Serializer::new(String::new()).append_pair("p", SECRET).finish(),
            "6c6574206974".to_owned() + "2f73746565702b226e6f7722",
        ] {
            assert!(planted.found_in(shown.as_bytes()).is_some(), "{shown}");
        }
        for before in ["", "a", "ab", "abc", "user:"] {
            for after in ["", "x", "xy"] {
                let shown = format!("Basic {}", STANDARD_NO_PAD.encode(format!("{before}{SECRET}{after}")));
                assert!(planted.found_in(shown.as_bytes()).is_some(), "{shown}");
            }
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let planted = Planted::new([SECRET]);
        assert_eq!(planted.found_in(b"let it steep \xff now"), None);
        assert_eq!(planted.found_in(b""), None);
    }

    #[test]
    #[should_panic(expected = "the log: `let it/steep")]
    fn what_is_found_is_said() {
        Planted::new([SECRET]).assert_absent("the log", format!("é: {SECRET}"));
    }
}
