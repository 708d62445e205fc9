//! "JOB/path/to/file", as the object commands take it.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    os::unix::ffi::OsStrExt,
    str::FromStr,
};

use clap::builder::{OsStringValueParser, TypedValueParser, ValueParserFactory};

/// A path within a job. The path is bytes, as file names are; the job's name is text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectPath {
    /// The job's name.
    pub(crate) job: String,
    /// Names from the job's root, joined by single slashes; empty for the root itself.
    pub(crate) path: Vec<u8>,
    /// It was written with a slash at the end: a directory is meant.
    pub(crate) is_directory: bool,
}

impl ObjectPath {
    pub(crate) fn new(text: &OsStr) -> Result<Self, String> {
        let wrong = |what: &str| format!("{what}: write JOB/path, as sort-42/in/part-0");
        let mut parts = text.as_bytes().splitn(2, |byte| *byte == b'/');
        let job = parts.next().unwrap_or_default();
        let job = std::str::from_utf8(job).map_err(|_| wrong("a job's name is UTF-8"))?;
        if job.is_empty() {
            return Err(wrong("no job is named"));
        }
        let below = parts.next().unwrap_or_default();
        let names: Vec<_> = below
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty() && *name != b".")
            .collect();
        if names.contains(&&b".."[..]) {
            return Err(wrong("'..' is not followed"));
        }
        Ok(ObjectPath {
            job: job.to_owned(),
            path: names.join(&b'/'),
            is_directory: names.is_empty() || below.ends_with(b"/"),
        })
    }

    /// The last name; none for the root.
    pub(crate) fn name(&self) -> Option<&[u8]> {
        let name = self.path.rsplit(|byte| *byte == b'/').next()?;
        (!name.is_empty()).then_some(name)
    }

    /// `name` within this directory.
    pub(crate) fn join(&self, name: &[u8]) -> Self {
        let parts: Vec<_> = [&self.path[..], name]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect();
        ObjectPath {
            job: self.job.clone(),
            path: parts.join(&b'/'),
            is_directory: false,
        }
    }
}

impl FromStr for ObjectPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        ObjectPath::new(OsStr::new(text))
    }
}

impl ValueParserFactory for ObjectPath {
    type Parser = clap::builder::TryMapValueParser<
        OsStringValueParser,
        fn(OsString) -> Result<ObjectPath, String>,
    >;

    fn value_parser() -> Self::Parser {
        fn parse(text: OsString) -> Result<ObjectPath, String> {
            ObjectPath::new(&text)
        }
        OsStringValueParser::new().try_map(parse)
    }
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, show_name(&self.path))
    }
}

/// A name as people read it: bytes that are no text, and control characters, are escaped.
pub(crate) fn show_name(name: &[u8]) -> String {
    let mut shown = String::new();
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character.is_control() {
                true => shown.extend(character.escape_default()),
                false => shown.push(character),
            }
        }
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_slash_ends_the_job() {
        for (text, job, path, is_directory) in [
            ("sort", "sort", "", true),
            ("sort/", "sort", "", true),
            ("sort/a", "sort", "a", false),
            ("sort//a/./b", "sort", "a/b", false),
            ("sort/a/b/", "sort", "a/b", true),
        ] {
            let found: ObjectPath = text.parse().unwrap();
            assert_eq!(found.job, job, "{text}");
            assert_eq!(found.path, path.as_bytes(), "{text}");
            assert_eq!(found.is_directory, is_directory, "{text}");
        }
        for text in ["", "/", "/a", "sort/../a"] {
            assert!(text.parse::<ObjectPath>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_may_be_any_bytes() {
        let path = ObjectPath::new(OsStr::from_bytes(b"job/\xff\n")).unwrap();
        assert_eq!(path.name(), Some(&b"\xff\n"[..]));
        assert_eq!(path.to_string(), "job/\\xff\\n");
        assert!(ObjectPath::new(OsStr::from_bytes(b"\xff/a")).is_err());
    }

    #[test]
    fn names_are_joined() {
        let root: ObjectPath = "job".parse().unwrap();
        assert_eq!(root.name(), None);
        let file = root.join(b"d").join(b"f");
        assert_eq!(file.path, b"d/f");
        assert_eq!(file.name(), Some(&b"f"[..]));
    }
}
