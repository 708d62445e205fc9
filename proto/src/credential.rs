//! Credentials: who may speak of which job.
//!
//! The controller issues a job's when it is registered, and with that a mount opens a session at the
//! metadata server, which issues the session's: storage servers change blocks for that alone.
//! Servers verify a credential with the cluster key, without asking anyone. It is its scope and a
//! keyed BLAKE3 hash of it; a job's holds as long as the job, whose id is never used again, and a
//! session's until the session is fenced ([`Fence`](crate::Fence)).

use thiserror::Error;

use crate::{Incarnation, JobId, SessionId};

/// A letter and an id.
const SCOPE_BYTES: usize = 9;
/// A letter and three ids.
const SESSION_SCOPE_BYTES: usize = 25;
const CREDENTIAL_BYTES: usize = SCOPE_BYTES + blake3::OUT_LEN;
const SESSION_CREDENTIAL_BYTES: usize = SESSION_SCOPE_BYTES + blake3::OUT_LEN;
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
    /// To open sessions with the metadata server of one job.
    Job(JobId),
    /// The blocks of one job, on behalf of a session.
    Session(SessionScope),
    /// Everything: for the cluster's own servers.
    Cluster,
}

/// A session, as storage servers know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionScope {
    /// Whose blocks.
    pub job: JobId,
    /// The session.
    pub session: SessionId,
    /// The life of the metadata server that keeps the session.
    pub issuer: Incarnation,
}

/// Why a credential is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CredentialError {
    /// Not a credential at all.
    #[error(
        "credential of {0} bytes, expected {CREDENTIAL_BYTES} or, of a session, \
         {SESSION_CREDENTIAL_BYTES}"
    )]
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
        let mut bytes = encode(scope);
        let hash = blake3::keyed_hash(&key.0, &bytes);
        bytes.extend_from_slice(hash.as_bytes());
        Credential(bytes)
    }

    /// What `bytes` allow, if they were issued with `key`. The comparison takes constant time.
    pub fn verify(key: &ClusterKey, bytes: &[u8]) -> Result<Scope, CredentialError> {
        if ![CREDENTIAL_BYTES, SESSION_CREDENTIAL_BYTES].contains(&bytes.len()) {
            return Err(CredentialError::Length(bytes.len()));
        }
        let (scope, mac) = bytes.split_at(bytes.len() - blake3::OUT_LEN);
        // blake3::Hash compares in constant time.
        let genuine =
            blake3::Hash::from_slice(mac).is_ok_and(|mac| blake3::keyed_hash(&key.0, scope) == mac);
        if !genuine {
            return Err(CredentialError::Forged);
        }
        decode(scope).ok_or(CredentialError::Forged)
    }

    /// The credential for the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn encode(scope: Scope) -> Vec<u8> {
    let (kind, ids) = match scope {
        Scope::Job(job) => (b'j', vec![job.0]),
        Scope::Session(scope) => (b's', vec![scope.job.0, scope.session.0, scope.issuer.0]),
        Scope::Cluster => (b'c', vec![0]),
    };
    let mut bytes = vec![kind];
    bytes.extend(ids.into_iter().flat_map(u64::to_le_bytes));
    bytes
}

fn decode(scope: &[u8]) -> Option<Scope> {
    let (kind, ids) = scope.split_first()?;
    let (ids, _) = ids.as_chunks::<8>();
    let ids: Vec<u64> = ids.iter().map(|id| u64::from_le_bytes(*id)).collect();
    match (kind, ids.as_slice()) {
        (b'j', [job]) => Some(Scope::Job(JobId(*job))),
        (b's', [job, session, issuer]) => Some(Scope::Session(SessionScope {
            job: JobId(*job),
            session: SessionId(*session),
            issuer: Incarnation(*issuer),
        })),
        (b'c', [_]) => Some(Scope::Cluster),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Scope {
        Scope::Session(SessionScope {
            job: JobId(7),
            session: SessionId(8),
            issuer: Incarnation(9),
        })
    }

    #[test]
    fn issued_credential_names_its_scope() {
        let key = ClusterKey::from_passphrase("k");
        for scope in [Scope::Job(JobId(7)), session(), Scope::Cluster] {
            let credential = Credential::issue(&key, scope);
            assert_eq!(Credential::verify(&key, credential.as_bytes()), Ok(scope));
        }
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let key = ClusterKey::from_passphrase("k");
        for scope in [Scope::Job(JobId(7)), session()] {
            let good = Credential::issue(&key, scope);
            for at in 0..good.as_bytes().len() {
                let mut bad = good.as_bytes().to_vec();
                bad[at] ^= 1;
                assert_eq!(Credential::verify(&key, &bad), Err(CredentialError::Forged));
            }
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
