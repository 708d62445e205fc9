//! Checks that every server makes of its callers.

use pocket_proto::{
    ClusterKey, Credential, Failure, JobId, Scope, SessionScope, Status, session::Hello,
};

/// What the caller's credential allows, or why it is refused.
pub fn authenticate(key: &ClusterKey, hello: &Hello) -> Result<Scope, Failure> {
    Credential::verify(key, &hello.credential)
        .map_err(|error| Failure::new(Status::Denied, error.to_string()))
}

/// Whether a caller of `scope` may speak of `job`.
pub fn authorize(scope: Scope, job: JobId) -> Result<(), Failure> {
    match scope {
        Scope::Cluster => Ok(()),
        Scope::Job(own) | Scope::Session(SessionScope { job: own, .. }) if own == job => Ok(()),
        Scope::Job(own) | Scope::Session(SessionScope { job: own, .. }) => Err(Failure::new(
            Status::Denied,
            format!("the credential is for job {own}, the request is about job {job}"),
        )),
    }
}

/// Peers of different versions refuse each other.
pub(crate) fn check_version(client: u32, server: u32) -> Result<(), Failure> {
    if client == server {
        return Ok(());
    }
    Err(Failure::new(
        Status::VersionMismatch,
        format!(
            "the client speaks protocol version {client}, the server {server}: \
             run the same release of pocket on both"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_scope_covers_its_job_only() {
        assert_eq!(authorize(Scope::Job(JobId(1)), JobId(1)), Ok(()));
        assert_eq!(authorize(Scope::Cluster, JobId(1)), Ok(()));
        let denied = authorize(Scope::Job(JobId(1)), JobId(2)).unwrap_err();
        assert_eq!(denied.status, Status::Denied);
    }

    #[test]
    fn credential_of_another_cluster_is_denied() {
        let hello = Hello {
            credential: Credential::issue(&ClusterKey::from_passphrase("a"), Scope::Cluster)
                .as_bytes()
                .to_vec()
                .into(),
            ..Hello::default()
        };
        assert_eq!(
            authenticate(&ClusterKey::from_passphrase("a"), &hello),
            Ok(Scope::Cluster)
        );
        let denied = authenticate(&ClusterKey::from_passphrase("b"), &hello).unwrap_err();
        assert_eq!(denied.status, Status::Denied);
        assert!(denied.message.contains("cluster key"), "{denied}");
    }
}
