//! Starting and stopping a controller.

use std::io;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::ControllerConfig;

/// Why a controller did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {listen} ({source}): is another controller running there?")]
    Listen {
        /// The address asked for.
        listen: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Starts controllers.
#[derive(Debug)]
pub struct Controller;

/// A controller at work. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct RunningController {
    endpoint: String,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Controller {
    /// Starts a controller; it serves when this returns.
    pub async fn start(config: ControllerConfig) -> Result<RunningController, StartError> {
        let listen = |source| StartError::Listen {
            listen: config.listen.clone(),
            source,
        };
        let listener = TcpListener::bind(&config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(RunningController {
            endpoint: address.to_string(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }
}

impl RunningController {
    /// Where it listens, with the real port: "host:port".
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Stops it and waits until its tasks have ended. Jobs and servers go on without it.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for RunningController {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
