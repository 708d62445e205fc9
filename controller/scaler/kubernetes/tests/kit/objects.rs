//! Objects with their versions, and what is remembered of their changes.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

/// Kinds that a scaler has to do with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Pod,
    StatefulSet,
    Lease,
}

impl Kind {
    /// Group and plural, as in paths and in rules.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Kind::Pod => ("", "pods"),
            Kind::StatefulSet => ("apps", "statefulsets"),
            Kind::Lease => ("coordination.k8s.io", "leases"),
        }
    }

    pub fn head(self) -> (&'static str, &'static str) {
        match self {
            Kind::Pod => ("v1", "Pod"),
            Kind::StatefulSet => ("apps/v1", "StatefulSet"),
            Kind::Lease => ("coordination.k8s.io/v1", "Lease"),
        }
    }
}

/// What is asked for, in the words of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
}

impl Verb {
    pub fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
        }
    }
}

/// A request as it was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub verb: Verb,
    pub kind: Kind,
    /// "scale", or none.
    pub subresource: Option<String>,
    /// Of the object, or of the only one that a field selector leaves.
    pub name: Option<String>,
    pub body: Value,
}

/// What goes wrong with the next request of a verb and kind.
#[derive(Clone, Debug)]
pub enum Fault {
    /// 429, to be asked again after so many seconds.
    Throttled(u64),
    /// An answer of this code, with a Status.
    Fails(u16),
    /// No answer at all.
    Silent,
    /// The object is changed by another right before.
    Overtaken,
    /// It is done, and the answer is lost.
    AnswerLost,
}

/// A change of an object.
#[derive(Clone, Debug)]
pub struct Change {
    pub version: u64,
    pub kind: Kind,
    /// "ADDED", "MODIFIED" or "DELETED".
    pub what: &'static str,
    pub object: Value,
}

/// All objects.
#[derive(Debug, Default)]
pub struct Objects {
    version: u64,
    by_name: BTreeMap<(Kind, String), Value>,
    changes: VecDeque<Change>,
    /// Changes up to this version are forgotten.
    pub forgotten: u64,
}

impl Objects {
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn get(&self, kind: Kind, name: &str) -> Option<&Value> {
        self.by_name.get(&(kind, name.to_owned()))
    }

    pub fn all(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        let all = self.by_name.iter().filter(move |((of, _), _)| *of == kind);
        all.map(|(_, object)| object)
    }

    /// Puts an object there as it now is; answers it with its version.
    pub fn put(&mut self, kind: Kind, mut object: Value) -> Value {
        self.version += 1;
        let name = name_of(&object);
        let (api_version, kind_name) = kind.head();
        object["apiVersion"] = json!(api_version);
        object["kind"] = json!(kind_name);
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let before = self.by_name.insert((kind, name), object.clone());
        let what = if before.is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        self.note(kind, what, object.clone());
        object
    }

    pub fn remove(&mut self, kind: Kind, name: &str) {
        if let Some(mut object) = self.by_name.remove(&(kind, name.to_owned())) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.note(kind, "DELETED", object);
        }
    }

    fn note(&mut self, kind: Kind, what: &'static str, object: Value) {
        let version = self.version;
        self.changes.push_back(Change {
            version,
            kind,
            what,
            object,
        });
    }

    /// Changes after a version; none if some of them are forgotten.
    pub fn changes_after(&self, kind: Kind, version: u64) -> Option<Vec<Change>> {
        let after = self
            .changes
            .iter()
            .filter(|change| change.version > version);
        let after = after.filter(|change| change.kind == kind);
        (version >= self.forgotten).then(|| after.cloned().collect())
    }
}

pub fn name_of(object: &Value) -> String {
    object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}
