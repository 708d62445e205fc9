//! The manifests as they are shipped, and a strict reading of what is said in JSON.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// A document of the manifests.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub file: String,
    pub object: Value,
}

impl Manifest {
    pub fn kind(&self) -> &str {
        self.object["kind"].as_str().unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }
}

/// Where they are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../mounts/kubernetes/manifests")
}

/// Every document of every file there, but for kustomize's own.
pub fn manifests() -> Vec<Manifest> {
    let mut manifests = Vec::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !file.ends_with(".yaml") || file == "kustomization.yaml" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        manifests.extend(documents.into_iter().map(|object| Manifest {
            file: file.clone(),
            object,
        }));
    }
    assert!(manifests.len() > 10, "only {} manifests", manifests.len());
    manifests
}

/// Reads JSON as a published type; says what that type does not know or changes.
pub fn strictly<T: DeserializeOwned + Serialize>(said: &Value) -> Result<T, String> {
    let read: T = serde_json::from_value(said.clone()).map_err(|error| error.to_string())?;
    let known = serde_json::to_value(&read).map_err(|error| error.to_string())?;
    let mut lost = Vec::new();
    compare(said, &known, "", &mut lost);
    match lost.is_empty() {
        true => Ok(read),
        false => Err(lost.join("; ")),
    }
}

/// Notes what was said and is not known.
fn compare(said: &Value, known: &Value, at: &str, lost: &mut Vec<String>) {
    match (said, known) {
        (Value::Object(said), Value::Object(known)) => {
            for (name, said) in said {
                let at = format!("{at}.{name}");
                match known.get(name) {
                    Some(known) => compare(said, known, &at, lost),
                    None if said.is_null() => {}
                    None => lost.push(format!("{at} is not known")),
                }
            }
        }
        (Value::Array(said), Value::Array(known)) if said.len() == known.len() => {
            for (number, (said, known)) in said.iter().zip(known).enumerate() {
                compare(said, known, &format!("{at}[{number}]"), lost);
            }
        }
        (said, known) if said == known => {}
        (said, known) => lost.push(format!("{at}: {said} is read as {known}")),
    }
}
