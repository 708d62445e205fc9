//! What the object commands have in common: they use a job's files and leave in an orderly way.

use anyhow::Context;
use clap::Args;
use pocket_fs::FileSystemConfig;

use crate::{
    arguments::JobArguments,
    connection::{JobConnection, JobTerms},
    endpoint::ControllerArgument,
    presentation::Presentation,
};

/// Which cluster the job is in.
#[derive(Args, Clone, Debug)]
pub(super) struct ObjectArguments {
    #[command(flatten)]
    control: ControllerArgument,
}

impl ObjectArguments {
    /// Joins a job that exists and lets `work` use its files.
    pub(super) async fn join<T>(
        &self,
        job: &str,
        work: impl AsyncFnOnce(&JobConnection) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let terms = JobTerms {
            name: job.to_owned(),
            existing_only: true,
            ..JobTerms::default()
        };
        self.with(&terms, work).await
    }

    /// Joins a job or creates it, and lets `work` use its files.
    pub(super) async fn join_or_create<T>(
        &self,
        job: &str,
        arguments: &JobArguments,
        work: impl AsyncFnOnce(&JobConnection) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.with(&arguments.to_terms(job), work).await
    }

    async fn with<T>(
        &self,
        terms: &JobTerms,
        work: impl AsyncFnOnce(&JobConnection) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let connection = JobConnection::open(
            self.control.controller.as_str(),
            terms,
            FileSystemConfig::default(),
            Presentation::default(),
            |place| eprintln!("pocket: job '{}' waits: {place}", terms.name),
        );
        let connection = connection.await?;
        let outcome = work(&connection).await;
        let closed = connection.close().await;
        // The first failure explains the second.
        let value = outcome?;
        closed.context("cannot leave the job in an orderly way")?;
        Ok(value)
    }
}
