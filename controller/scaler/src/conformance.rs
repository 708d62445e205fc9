//! What every scaler must do. A back end's tests call [`check`] with a [`World`] that can look at
//! its servers from outside, and make them crash and leave.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use crate::{Instance, InstanceState, Scaler, ScalerError};

/// How long a server may take to start, to be started again, or to be gone.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// A back end's surroundings.
#[async_trait]
pub trait World: Send + Sync {
    /// Has the server crash.
    async fn crash(&self, endpoint: &str);
    /// Has the server end as one that was drained.
    async fn leave(&self, endpoint: &str);
    /// Whether something serves there.
    async fn serves(&self, endpoint: &str) -> bool;
}

/// Checks a scaler that has no servers yet; says what is wrong.
pub async fn check(scaler: &dyn Scaler, world: &dyn World) -> Result<(), String> {
    expect(instances(scaler).await?.is_empty(), "it begins with none")?;
    match scaler.start(2).await {
        // Nothing more can be asked of it.
        Err(ScalerError::NotOffered) => {
            return expect(instances(scaler).await?.is_empty(), "none was started");
        }
        started => started.map_err(|error| error.to_string())?,
    }
    expect(
        instances(scaler).await?.len() == 2,
        "what was asked for shows at once",
    )?;
    let first = running(scaler, 2).await?;
    for endpoint in &first {
        expect(world.serves(endpoint).await, "what runs serves")?;
    }

    world.crash(&first[0]).await;
    crashed(scaler, &first[0]).await?;
    let again = running(scaler, 2).await?;
    expect(again.contains(&first[1]), "a crash of one is no other's")?;

    let leaving = next_to_leave(scaler).await?;
    world.leave(&leaving).await;
    let left = running(scaler, 1).await?;
    expect(!left.contains(&leaving), "what has left stays away")?;

    scaler.start(0).await.map_err(|error| error.to_string())?;
    expect(
        instances(scaler).await?.len() == 1,
        "none is started where none is asked for",
    )?;
    scaler.start(1).await.map_err(|error| error.to_string())?;
    let more = running(scaler, 2).await?;
    expect(more.contains(&left[0]), "those that run stay as they are")
}

/// Waits until exactly so many are there and run; answers their endpoints.
async fn running(scaler: &dyn Scaler, count: usize) -> Result<Vec<String>, String> {
    let begun = Instant::now();
    loop {
        let seen = instances(scaler).await?;
        let running = seen.iter().filter(|i| i.state == InstanceState::Running);
        let endpoints: Vec<_> = running.filter_map(|i| i.endpoint.clone()).collect();
        if seen.len() == count && endpoints.len() == count {
            return Ok(endpoints);
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("{count} servers should run: {seen:?}"));
        }
        sleep(POLL).await;
    }
}

/// The endpoint of the server whose turn it is.
async fn next_to_leave(scaler: &dyn Scaler) -> Result<String, String> {
    let seen = instances(scaler).await?.into_iter();
    let last = seen.max_by_key(|instance| instance.rank);
    let endpoint = last.and_then(|instance| instance.endpoint);
    endpoint.ok_or_else(|| "not so: whose turn it is to leave runs".to_owned())
}

/// Waits until the server is seen not to run any more, or to run somewhere else.
async fn crashed(scaler: &dyn Scaler, endpoint: &str) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let seen = instances(scaler).await?;
        let still = seen.iter().any(|instance| {
            instance.state == InstanceState::Running
                && instance.endpoint.as_deref() == Some(endpoint)
        });
        if !still {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("a crash should be noticed: {seen:?}"));
        }
        sleep(POLL).await;
    }
}

async fn instances(scaler: &dyn Scaler) -> Result<Vec<Instance>, String> {
    scaler.instances().await.map_err(|error| error.to_string())
}

fn expect(holds: bool, what: &str) -> Result<(), String> {
    holds.then_some(()).ok_or_else(|| format!("not so: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StaticScaler;

    struct Nothing;

    #[async_trait]
    impl World for Nothing {
        async fn crash(&self, _: &str) {}
        async fn leave(&self, _: &str) {}
        async fn serves(&self, _: &str) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn the_static_scaler_conforms() {
        assert_eq!(check(&StaticScaler, &Nothing).await, Ok(()));
    }
}
