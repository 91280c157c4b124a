//! Image pull secrets of Kubernetes: `.dockerconfigjson` and `.dockercfg` documents, and Secrets as JSON that hold them.
//!
//! Only their entries count. Programs that a document names are not run, as the kubelet does not run them: whoever may
//! write a Secret shall not decide what runs here.

use std::path::{Path, PathBuf};

use base64::Engine;
use serde::Deserialize;

use super::Credentials;
use super::entry::{BASE64, EntryProblem, RawAuths, read_auths};
use super::reading::{Patience, Reading};
use super::scope::{Fit, Scoped};
use super::watched_file::WatchedFile;
use crate::Name;
use crate::json;

/// How many documents are read from one directory.
const MAX_DOCUMENTS: usize = 1_000;

/// The key of the usual kind of document.
const CONFIG_JSON: &str = ".dockerconfigjson";
/// The key of the older kind, which is the `auths` section by itself.
const CFG: &str = ".dockercfg";

/// The credentials of one document.
#[derive(Debug, Clone, Default)]
pub struct PullSecret {
    auths: Scoped<Credentials>,
    problems: Vec<EntryProblem>,
}

#[derive(Deserialize)]
struct RawSecret {
    #[serde(default)]
    data: Option<Data>,
    #[serde(default, rename = "stringData")]
    string_data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = ".dockerconfigjson")]
    config_json: Option<String>,
    #[serde(rename = ".dockercfg")]
    cfg: Option<String>,
}

impl PullSecret {
    /// Reads a document; `file` names it in messages, and says by its ending `.dockercfg` that it is of the older kind where
    /// the document itself does not tell. The error is the reason, without the file.
    pub fn parse(text: &[u8], file: &str) -> Result<Self, String> {
        let document: serde_json::Map<String, serde_json::Value> = object(text)?;
        if document.get("kind").is_some_and(|kind| kind == "Secret") {
            return Self::of_secret(text, file);
        }
        let is_older = !document.contains_key("auths") && document.values().all(serde_json::Value::is_object);
        let auths = if is_older || file.ends_with(CFG) {
            Some(document.into_iter().collect())
        } else {
            auths(document)?
        };
        Ok(Self::of(auths.unwrap_or_default(), file))
    }

    fn of_secret(text: &[u8], file: &str) -> Result<Self, String> {
        let secret: RawSecret = object(text)?;
        let encoded = |text: String| {
            let text: String = text.split_ascii_whitespace().collect();
            BASE64.decode(text).map_err(|_| "the data of the Secret is not base64".to_owned())
        };
        let written = |text: String| Ok(text.into_bytes());
        let (config_json, cfg) = match (secret.string_data, secret.data) {
            // As in the cluster, where what is written wins over what is encoded.
            (Some(Data { config_json: Some(text), .. }), _) => (Some(written(text)), None),
            (Some(Data { cfg: Some(text), .. }), _) => (None, Some(written(text))),
            (_, Some(Data { config_json: Some(text), .. })) => (Some(encoded(text)), None),
            (_, Some(Data { cfg: Some(text), .. })) => (None, Some(encoded(text))),
            _ => return Err(format!("the Secret has neither {CONFIG_JSON} nor {CFG}")),
        };
        let auths = match (config_json.transpose()?, cfg.transpose()?) {
            (Some(text), _) => auths(object(&text)?)?,
            (None, Some(text)) => Some(object(&text)?),
            (None, None) => None,
        };
        Ok(Self::of(auths.unwrap_or_default(), file))
    }

    fn of(auths: RawAuths, file: &str) -> Self {
        let mut problems = Vec::new();
        Self { auths: read_auths(auths, file, false, &mut problems), problems }
    }

    /// The entries that cannot be used.
    pub fn problems(&self) -> &[EntryProblem] {
        &self.problems
    }

    /// The credentials that fit a repository, closest first.
    pub fn credentials_for(&self, name: &Name) -> Vec<Credentials> {
        self.fitting(name).into_iter().map(|(_, credentials)| credentials.clone()).collect()
    }

    fn fitting(&self, name: &Name) -> Vec<(Fit, &Credentials)> {
        self.auths.fitting(name)
    }
}

/// The decoder's own message could quote a secret.
fn object<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    json::object(text).map_err(|error| {
        format!(
            "it is no document of image pull secrets: at line {}, column {}",
            error.line(),
            error.column()
        )
    })
}

fn auths(mut document: serde_json::Map<String, serde_json::Value>) -> Result<Option<RawAuths>, String> {
    match document.remove("auths") {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::Object(auths)) => Ok(Some(auths.into_iter().collect())),
        Some(_) => Err("auths is not an object".to_owned()),
    }
}

/// The documents at one path: a file, or the files of a directory and of the directories in it, as a Secret or several are
/// mounted. Read again and again: files come and go, and what a file said last stays while it cannot be read.
#[derive(Debug)]
pub(super) struct PullSecrets {
    path: PathBuf,
    listing: Reading<Vec<PathBuf>>,
    /// In the order of their names.
    documents: Vec<WatchedFile<PullSecret>>,
    /// The directory as a whole.
    problem: Option<String>,
}

impl PullSecrets {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, listing: Reading::default(), documents: Vec::new(), problem: None }
    }

    pub(super) fn read_again(&mut self, patience: Patience) {
        self.problem = None;
        let path = self.path.clone();
        match self.listing.get(patience, move || files(&path)) {
            Ok(mut files) => {
                if files.len() > MAX_DOCUMENTS {
                    files.truncate(MAX_DOCUMENTS);
                    self.problem = Some(format!(
                        "{}: there are more than {MAX_DOCUMENTS} documents; the others are not read",
                        self.path.display()
                    ));
                }
                let mut known = std::mem::take(&mut self.documents);
                let document = |file: PathBuf| {
                    let position = known.iter().position(|document| document.path() == file);
                    position.map_or_else(|| WatchedFile::new(file), |position| known.swap_remove(position))
                };
                self.documents = files.into_iter().map(document).collect();
            }
            Err(error) => {
                self.problem = Some(format!("cannot read {}: {error}", self.path.display()));
                // What is in it hangs as well.
                if error.kind() == std::io::ErrorKind::TimedOut {
                    return;
                }
            }
        }
        for document in &mut self.documents {
            let file = document.path().display().to_string();
            document.read_again(patience, |text| PullSecret::parse(text, &file));
        }
    }

    /// What fits a repository, with how closely it does.
    pub(super) fn fitting(&self, name: &Name) -> impl Iterator<Item = (Fit, &Credentials)> {
        let name = name.clone();
        self.documents
            .iter()
            .filter_map(WatchedFile::content)
            .flat_map(move |document| document.fitting(&name))
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let own = self.problem.iter().cloned();
        let of_documents = self.documents.iter().flat_map(|document| {
            let path = document.path().display();
            let entries = document.content().into_iter().flat_map(PullSecret::problems);
            let entries = entries.map(move |problem| format!("{path}: {problem}"));
            document.problem().map(str::to_owned).into_iter().chain(entries)
        });
        own.chain(of_documents).collect()
    }
}

/// The documents at a path, in the order of their names.
fn files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !std::fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in entries(path)? {
        if !entry.is_dir() {
            files.push(entry);
        } else if let Ok(inner) = entries(&entry) {
            files.extend(inner.into_iter().filter(|entry| !entry.is_dir()));
        }
    }
    files.retain(|file| is_document(file));
    Ok(files)
}

/// What is in a directory, without what Kubernetes keeps behind the names that it links: `..data` and the like.
fn entries(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)?.take(2 * MAX_DOCUMENTS) {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b"..") {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// Beside the documents in a Secret may lie other things.
fn is_document(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    [CONFIG_JSON, CFG, ".json"].iter().any(|ending| name.ends_with(ending.as_bytes()))
}

#[cfg(test)]
mod tests;
