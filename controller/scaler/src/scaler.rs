//! What starts the servers of a pool: processes of this machine, pods, or nobody.

use async_trait::async_trait;
use thiserror::Error;

/// What a storage server that was drained leaves as its last word where its process is started again
/// whatever its end was, as in a pod: by this it is told from one that ended otherwise.
pub const DRAINED: &str = "drained: no job needs this server any more";

/// How a server that a scaler looks after is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// It was asked for and does not serve yet.
    Starting,
    /// It serves, as far as the scaler knows.
    Running,
    /// It crashed and is started again after a pause.
    Crashed {
        /// In a row.
        times: u32,
        /// How it ended.
        how: String,
    },
}

/// A server that a scaler looks after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name, for people.
    pub name: String,
    /// Where clients reach it, once that is known.
    pub endpoint: Option<String>,
    /// How it is doing.
    pub state: InstanceState,
    /// Whose turn it is to leave: one of a higher rank before those of lower ranks. Of one rank is
    /// whatever may leave in any order.
    pub rank: u32,
}

/// Why servers are not started.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScalerError {
    /// This scaler starts none.
    #[error("servers are not started here: they come and go by themselves")]
    NotOffered,
    /// It cannot now; later it may.
    #[error("{0}")]
    Failed(String),
}

/// Starts servers of one pool, and starts those that crash again.
///
/// A server ends by itself when it was drained (see `pocket_proto::control::Leave`); the scaler then
/// does not start it again. All operations return soon: what they began goes on behind them.
#[async_trait]
pub trait Scaler: Send + Sync {
    /// Its name: "local", "kubernetes", "static".
    fn name(&self) -> &'static str;

    /// The servers that it looks after, those that are only starting or crashed included. One that
    /// has left is not among them.
    async fn instances(&self) -> Result<Vec<Instance>, ScalerError>;

    /// Has so many more started. [`Scaler::instances`] shows them at once.
    async fn start(&self, count: u32) -> Result<(), ScalerError>;

    /// Whether it is this scaler that acts. Where several look after the same servers, one does at a
    /// time; an answer holds for the moment, so it is asked before each act.
    fn leads(&self) -> bool {
        true
    }
}

/// Starts nothing: servers come and go by themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct StaticScaler;

#[async_trait]
impl Scaler for StaticScaler {
    fn name(&self) -> &'static str {
        "static"
    }

    async fn instances(&self) -> Result<Vec<Instance>, ScalerError> {
        Ok(Vec::new())
    }

    async fn start(&self, _: u32) -> Result<(), ScalerError> {
        Err(ScalerError::NotOffered)
    }
}
