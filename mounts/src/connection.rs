//! A job's files without a mount: registered with the controller, a session with the metadata
//! server, and the file system core over it. Mounts and the object commands start here.

use std::{sync::Arc, time::Duration};

use pocket_controller_client::{ControllerClient, ControllerError};
use pocket_fs::{FileSystem, FileSystemConfig, RecallInbox};
use pocket_meta_client::MetaClient;
use pocket_proto::{
    BlockBytes, Failure, JobId, PROTOCOL_VERSION,
    control::{DeregisterJobRequest, Hints, RegisterJobReply, RegisterJobRequest},
};
use pocket_storage_client::{StorageClient, StorageClientOptions};
use thiserror::Error;
use tokio::task::AbortHandle;
use tracing::debug;

use crate::{machine, presentation::Presentation};

/// What a user says about a job: its name, and what it should be where it does not exist.
#[derive(Clone, Debug, Default)]
pub struct JobTerms {
    /// The job's name.
    pub name: String,
    /// What it will need.
    pub hints: Hints,
    /// Whose earlier runs stand in for missing hints; empty: the job's own.
    pub profile: String,
    /// How long it outlives its last mount; none: the cluster's default.
    pub lease: Option<Duration>,
    /// It outlives its mounts until deregistered.
    pub keep: bool,
    /// It is meant to be found again; `lease` is for how long.
    pub persist: bool,
    /// Its files go once they were read.
    pub delete_after_read: bool,
    /// Its block size; none: the default.
    pub block_bytes: Option<BlockBytes>,
    /// Join, never create.
    pub existing_only: bool,
    /// How long it may wait in the queue where there is no room.
    pub wait: Duration,
}

/// Why there is no way to a job's files.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The controller is away or says no.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// The metadata server that the controller named is away or says no.
    #[error("cannot open a session with the metadata server at {endpoint}: {failure}")]
    Metadata {
        /// Where it was looked for.
        endpoint: String,
        /// What it said.
        failure: Failure,
    },
    /// The file system core refuses its settings or the job's.
    #[error("cannot serve job '{job}': {failure}")]
    FileSystem {
        /// The job's name.
        job: String,
        /// Why.
        failure: Failure,
    },
}

/// A job's files, ready to use. To be closed; when it is dropped instead, the job's servers end
/// the session after its lease.
pub struct JobConnection {
    fs: Arc<FileSystem>,
    session: MetaClient,
    controller: ControllerClient,
    registration: RegisterJobReply,
    housekeeping: AbortHandle,
}

impl JobTerms {
    fn to_request(&self) -> RegisterJobRequest {
        RegisterJobRequest {
            name: self.name.clone(),
            hints: Some(self.hints),
            lease_seconds: self.lease.map_or(0, |lease| lease.as_secs()),
            keep: self.keep,
            persist: self.persist,
            delete_after_read: self.delete_after_read,
            block_bytes: self.block_bytes.map_or(0, BlockBytes::get),
            protocol_version: PROTOCOL_VERSION,
            existing_only: self.existing_only,
            profile: self.profile.clone(),
            ticket: None,
            gives_up: false,
        }
    }
}

impl JobConnection {
    /// Joins or creates the job and opens a session. Ends within the deadlines of the clients and the
    /// time that it may wait in the queue; `told` is its place there and what is missing.
    pub async fn open(
        controller: &str,
        terms: &JobTerms,
        config: FileSystemConfig,
        presentation: Presentation,
        told: impl FnMut(&str),
    ) -> Result<Self, ConnectError> {
        let client = ControllerClient::connect(controller)?;
        let request = terms.to_request();
        let registration = match terms.wait {
            Duration::ZERO => client.register_job(request).await?,
            wait => client.register_job_in_turn(request, wait, told).await?,
        };
        let job = JobId(registration.job);
        let credential = registration.credential.to_vec();
        let endpoint = registration.metadata_endpoint.clone();
        let recalls = RecallInbox::new();
        let host = machine::host_name();
        let session = MetaClient::connect(&endpoint, job, credential, &host, recalls.clone());
        let session = match session.await {
            Ok(session) => session,
            Err(failure) => return Err(ConnectError::Metadata { endpoint, failure }),
        };
        let metadata = presentation.over(Arc::new(session.clone()));
        let credential = metadata.session().storage_credential.to_vec();
        let storage = StorageClient::new(job, credential, StorageClientOptions::default());
        let fs = FileSystem::new(metadata, Arc::new(storage), config).map_err(|failure| {
            ConnectError::FileSystem {
                job: terms.name.clone(),
                failure,
            }
        })?;
        recalls.attach(&fs);
        let housekeeping = tokio::spawn(Arc::clone(&fs).run_housekeeping()).abort_handle();
        Ok(JobConnection {
            fs,
            session,
            controller: client,
            registration,
            housekeeping,
        })
    }

    /// The job's files.
    pub fn fs(&self) -> &Arc<FileSystem> {
        &self.fs
    }

    /// The way to the controller.
    pub(crate) fn controller(&self) -> &ControllerClient {
        &self.controller
    }

    /// What the controller answered.
    pub fn registration(&self) -> &RegisterJobReply {
        &self.registration
    }

    /// Leaves a job that could not be put to use; one that was created for it ends, so that it
    /// holds no space.
    pub async fn abandon(self) {
        let (created, job) = (self.registration.created, self.registration.job);
        let controller = self.controller.clone();
        if let Err(failure) = self.close().await {
            debug!(%failure, "the job was not left in an orderly way");
        }
        if created {
            let request = DeregisterJobRequest {
                name: String::new(),
                job,
            };
            if let Err(error) = controller.deregister_job(request).await {
                debug!(%error, "the new job ends with its lease");
            }
        }
    }

    /// Writes back what is buffered and ends the session.
    pub async fn close(self) -> Result<(), Failure> {
        self.housekeeping.abort();
        let outcome = self.fs.shut_down().await;
        self.session.close().await;
        outcome
    }
}

impl Drop for JobConnection {
    fn drop(&mut self) {
        self.housekeeping.abort();
    }
}
