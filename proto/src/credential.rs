//! Credentials: who may speak of which job.
//!
//! The controller issues one when a job is registered; metadata and storage servers verify it with
//! the cluster key alone, without asking anyone. A credential is its scope and a keyed BLAKE3 hash
//! of it; it holds as long as the job, whose id is never used again.

use thiserror::Error;

use crate::JobId;

const SCOPE_BYTES: usize = 9;
const CREDENTIAL_BYTES: usize = SCOPE_BYTES + blake3::OUT_LEN;
const KEY_CONTEXT: &str = "pocket 2026 cluster key from passphrase";

/// The secret shared by a cluster's controller, metadata and storage servers.
#[derive(Clone)]
pub struct ClusterKey([u8; 32]);

impl ClusterKey {
    /// The key of a cluster whose operator set none. Protects against mistakes, not against
    /// attackers.
    pub fn open() -> Self {
        Self::from_passphrase("")
    }

    /// Derives the key from what the operator typed, of any length.
    pub fn from_passphrase(passphrase: &str) -> Self {
        ClusterKey(blake3::derive_key(KEY_CONTEXT, passphrase.as_bytes()))
    }
}

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterKey(..)")
    }
}

/// What a credential allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The data and names of one job.
    Job(JobId),
    /// Everything: for the cluster's own servers.
    Cluster,
}

/// Why a credential is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CredentialError {
    /// Not a credential at all.
    #[error("credential of {0} bytes, expected {CREDENTIAL_BYTES}")]
    Length(usize),
    /// Not issued with this cluster's key.
    #[error("credential not issued by this cluster (is the cluster key the same everywhere?)")]
    Forged,
}

/// A scope, signed with the cluster key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential(Vec<u8>);

impl Credential {
    /// Signs `scope`.
    pub fn issue(key: &ClusterKey, scope: Scope) -> Self {
        let scope = encode(scope);
        let mut bytes = Vec::with_capacity(CREDENTIAL_BYTES);
        bytes.extend_from_slice(&scope);
        bytes.extend_from_slice(blake3::keyed_hash(&key.0, &scope).as_bytes());
        Credential(bytes)
    }

    /// What `bytes` allow, if they were issued with `key`. The comparison takes constant time.
    pub fn verify(key: &ClusterKey, bytes: &[u8]) -> Result<Scope, CredentialError> {
        let bytes: &[u8; CREDENTIAL_BYTES] = bytes
            .try_into()
            .map_err(|_| CredentialError::Length(bytes.len()))?;
        let (scope, mac) = bytes.split_at(SCOPE_BYTES);
        // blake3::Hash compares in constant time.
        let genuine =
            blake3::Hash::from_slice(mac).is_ok_and(|mac| blake3::keyed_hash(&key.0, scope) == mac);
        let mut id = [0; 8];
        id.copy_from_slice(&scope[1..]);
        match (genuine, scope[0]) {
            (true, b'j') => Ok(Scope::Job(JobId(u64::from_le_bytes(id)))),
            (true, b'c') => Ok(Scope::Cluster),
            _ => Err(CredentialError::Forged),
        }
    }

    /// The credential for the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn encode(scope: Scope) -> [u8; SCOPE_BYTES] {
    let (kind, id) = match scope {
        Scope::Job(job) => (b'j', job.0),
        Scope::Cluster => (b'c', 0),
    };
    let mut bytes = [kind; SCOPE_BYTES];
    bytes[1..].copy_from_slice(&id.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issued_credential_names_its_scope() {
        let key = ClusterKey::from_passphrase("k");
        for scope in [Scope::Job(JobId(7)), Scope::Cluster] {
            let credential = Credential::issue(&key, scope);
            assert_eq!(Credential::verify(&key, credential.as_bytes()), Ok(scope));
        }
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let key = ClusterKey::from_passphrase("k");
        let good = Credential::issue(&key, Scope::Job(JobId(7)));
        for at in 0..good.as_bytes().len() {
            let mut bad = good.as_bytes().to_vec();
            bad[at] ^= 1;
            assert_eq!(Credential::verify(&key, &bad), Err(CredentialError::Forged));
        }
    }

    #[test]
    fn other_key_and_other_length_are_refused() {
        let good = Credential::issue(&ClusterKey::from_passphrase("k"), Scope::Cluster);
        let other = ClusterKey::from_passphrase("l");
        assert_eq!(
            Credential::verify(&other, good.as_bytes()),
            Err(CredentialError::Forged)
        );
        assert_eq!(
            Credential::verify(&other, b"short"),
            Err(CredentialError::Length(5))
        );
    }
}
