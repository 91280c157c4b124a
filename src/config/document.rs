//! A TOML document read key by key: every value knows its line and its dotted path, a value of the wrong type
//! and a key that nobody asked for become problems, and reading goes on after each of them.
//!
//! Deserializing into a struct would stop at the first mistake and could not name its place in lists.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use samovar_registry::Secret;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Origin, Problems, quoted};
use super::settings::{SecretSetting, Setting};

/// What all parts of one document share.
#[derive(Debug)]
pub(super) struct Document<'a> {
    path: Arc<Path>,
    text: &'a str,
    problems: RefCell<Problems>,
}

impl<'a> Document<'a> {
    /// A document that was read from `path`.
    pub(super) fn new(path: &Path, text: &'a str) -> Self {
        Self { path: path.into(), text, problems: RefCell::default() }
    }

    /// Everything that was wrong with what was read.
    pub(super) fn into_problems(self) -> Problems {
        self.problems.into_inner()
    }

    /// The table that is the document. Where the syntax is broken, the problems are noted and there is none.
    pub(super) fn root(&self) -> Option<Section<'_>> {
        let (root, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let line = error.span().map(|span| self.line_at(span.start));
            let origin = Origin::File { path: Arc::clone(&self.path), line, key: String::new() };
            self.refuse(&origin, format!("not TOML: {}", error.message()));
        }
        if !errors.is_empty() {
            return None;
        }
        let origin = Origin::File { path: Arc::clone(&self.path), line: None, key: String::new() };
        Some(Section { document: self, origin, entries: root.into_inner(), known: Vec::new() })
    }

    fn refuse(&self, origin: &Origin, reason: String) {
        self.problems.borrow_mut().add(origin, reason);
    }

    fn origin(&self, offset: usize, key: String) -> Origin {
        Origin::File { path: Arc::clone(&self.path), line: Some(self.line_at(offset)), key }
    }

    fn line_at(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|&&byte| byte == b'\n').count()
    }
}

/// A table that is being read: keys are taken out of it, and [`Section::finish`] refuses those that are left.
#[derive(Debug)]
pub(super) struct Section<'a> {
    document: &'a Document<'a>,
    origin: Origin,
    entries: DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The value of a key, of any type.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        let (name, value) = self.entries.remove_entry(key)?;
        let origin = self.document.origin(name.span().start, self.path_of(key));
        Some(Value { document: self.document, origin, content: value.into_inner() })
    }

    /// The text of a key.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Setting> {
        self.take(key)?.into_text()
    }

    /// The text of a key that must be there.
    pub(super) fn required_text(&mut self, key: &'static str) -> Option<Setting> {
        self.required(key)?.into_text()
    }

    fn required(&mut self, key: &'static str) -> Option<Value<'a>> {
        let value = self.take(key);
        if value.is_none() {
            self.document.refuse(&self.origin, format!("the key {key} is missing"));
        }
        value
    }

    /// The text of a key, which no message is to show.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<SecretSetting> {
        self.take(key)?.into_secret()
    }

    /// The truth of a key.
    pub(super) fn truth(&mut self, key: &'static str) -> Option<bool> {
        self.take(key)?.into_truth()
    }

    /// The text or the list of texts of a key that must be there.
    pub(super) fn required_text_or_texts(&mut self, key: &'static str) -> Option<Vec<Setting>> {
        let value = self.required(key)?;
        if value.is_text() {
            return Some(vec![value.into_text()?]);
        }
        Some(value.into_list()?.into_iter().filter_map(Value::into_text).collect())
    }

    /// The number of a key, as text.
    pub(super) fn number(&mut self, key: &'static str) -> Option<Setting> {
        self.take(key)?.into_number()
    }

    /// The size of a key, as text: a string with a unit, or a number of bytes.
    pub(super) fn size(&mut self, key: &'static str) -> Option<Setting> {
        self.take(key)?.into_size()
    }

    /// The list of texts of a key.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<Setting>> {
        Some(self.take(key)?.into_list()?.into_iter().filter_map(Value::into_text).collect())
    }

    /// The table of a key.
    pub(super) fn section(&mut self, key: &'static str) -> Option<Section<'a>> {
        self.take(key)?.into_section()
    }

    /// Where the table stands.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Everything in a table whose keys are the user's own names.
    pub(super) fn into_named_values(self) -> Vec<(Setting, Value<'a>)> {
        let Self { document, origin: table, entries, .. } = self;
        let named_value = |(name, value): (Spanned<_>, Spanned<_>)| {
            let offset = name.span().start;
            let name = String::from(name.into_inner());
            let origin = document.origin(offset, table.key_below(&name));
            let value = Value { document, origin: origin.clone(), content: value.into_inner() };
            (Setting { value: name, origin }, value)
        };
        entries.into_iter().map(named_value).collect()
    }

    /// Refuses the keys that were not asked for.
    pub(super) fn finish(mut self) {
        self.known.sort_unstable();
        for (name, _) in &self.entries {
            let origin = self.document.origin(name.span().start, self.path_of(name.get_ref()));
            self.document.refuse(&origin, format!("unknown key; known here: {}", self.known.join(", ")));
        }
    }

    fn path_of(&self, key: &str) -> String {
        self.origin.key_below(key)
    }
}

/// A value with its place in the document.
#[derive(Debug)]
pub(super) struct Value<'a> {
    document: &'a Document<'a>,
    /// Where it stands.
    pub(super) origin: Origin,
    content: DeValue<'a>,
}

impl<'a> Value<'a> {
    /// Whether this is a table.
    pub(super) fn is_section(&self) -> bool {
        matches!(self.content, DeValue::Table(_))
    }

    /// Whether this is a string.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.content, DeValue::String(_))
    }

    /// A string that no message is to show.
    pub(super) fn into_secret(self) -> Option<SecretSetting> {
        if let DeValue::String(text) = self.content {
            return Some(SecretSetting { value: Secret::new(text), origin: self.origin });
        }
        self.document.refuse(&self.origin, "expected a string in quotes".to_owned());
        None
    }

    /// `true` or `false`.
    pub(super) fn into_truth(self) -> Option<bool> {
        match self.content {
            DeValue::Boolean(truth) => Some(truth),
            _ => self.refuse_type("true or false"),
        }
    }

    /// A string.
    pub(super) fn into_text(self) -> Option<Setting> {
        match self.content {
            DeValue::String(text) => Some(Setting { value: text.into_owned(), origin: self.origin }),
            _ => self.refuse_type("a string in quotes"),
        }
    }

    /// An integer or a float, as it is written.
    pub(super) fn into_number(self) -> Option<Setting> {
        match &self.content {
            DeValue::Integer(number) => Some(Setting { value: number.to_string(), origin: self.origin }),
            DeValue::Float(number) => Some(Setting { value: number.to_string(), origin: self.origin }),
            _ => self.refuse_type("a number without quotes"),
        }
    }

    /// Whether this is a list.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.content, DeValue::Array(_))
    }

    /// One string, or the strings of a list.
    pub(super) fn into_text_or_texts(self) -> Vec<Setting> {
        if self.is_list() {
            self.into_list().into_iter().flatten().filter_map(Value::into_text).collect()
        } else {
            self.into_text().into_iter().collect()
        }
    }

    /// A string, or an integer as it is written.
    pub(super) fn into_size(self) -> Option<Setting> {
        match self.content {
            DeValue::String(text) => Some(Setting { value: text.into_owned(), origin: self.origin }),
            DeValue::Integer(number) => Some(Setting { value: number.to_string(), origin: self.origin }),
            _ => self.refuse_type("a size such as \"512MiB\" or a number of bytes"),
        }
    }

    /// The elements of a list.
    pub(super) fn into_list(self) -> Option<Vec<Value<'a>>> {
        let DeValue::Array(elements) = self.content else {
            return self.refuse_type("a list in brackets");
        };
        let element = |(index, element): (usize, Spanned<DeValue<'a>>)| Value {
            document: self.document,
            origin: self.document.origin(element.span().start, self.origin.key_at(index)),
            content: element.into_inner(),
        };
        Some(elements.into_iter().enumerate().map(element).collect())
    }

    /// A table.
    pub(super) fn into_section(self) -> Option<Section<'a>> {
        let DeValue::Table(entries) = self.content else {
            return self.refuse_type("a table");
        };
        Some(Section { document: self.document, origin: self.origin, entries, known: Vec::new() })
    }

    /// Notes that this value should have been something else.
    pub(super) fn refuse_type<T>(&self, expected: &str) -> Option<T> {
        let found = match &self.content {
            DeValue::String(text) => format!("the string {}", quoted(text)),
            DeValue::Integer(number) => format!("the number {number}"),
            DeValue::Float(number) => format!("the number {number}"),
            DeValue::Boolean(truth) => format!("{truth}"),
            DeValue::Datetime(time) => format!("the time {time}"),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.document.refuse(&self.origin, format!("expected {expected}, found {found}"));
        None
    }
}
