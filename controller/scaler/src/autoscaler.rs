//! The loop: looks, and has every pool decide and act.

use std::time::{Duration, Instant};

use pocket_controller_client::ControllerClient;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    Scaler,
    pool::{AutoscaleSettings, ScaledPool},
};

/// Time between two looks: whoever waits for room waits for this, and for a server's start.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Keeps the numbers of servers right, of each pool by itself.
pub struct Autoscaler {
    client: ControllerClient,
    pools: Vec<ScaledPool>,
    started: Instant,
}

impl Autoscaler {
    /// An autoscaler of the controller's cluster, with one pool. Does nothing before
    /// [`Autoscaler::run`].
    pub fn new(
        client: ControllerClient,
        scaler: impl Scaler + 'static,
        settings: AutoscaleSettings,
    ) -> Self {
        Autoscaler {
            client,
            pools: vec![ScaledPool::new(scaler, settings)],
            started: Instant::now(),
        }
    }

    /// With another pool, of other servers ([`AutoscaleSettings::of`]).
    pub fn and(mut self, scaler: impl Scaler + 'static, settings: AutoscaleSettings) -> Self {
        self.pools.push(ScaledPool::new(scaler, settings));
        self
    }

    /// Looks and acts until stopped. A controller that is away is waited for.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            stop.run_until_cancelled(self.look()).await;
        }
    }

    /// What one pool fails at is no other's.
    async fn look(&mut self) {
        for pool in &mut self.pools {
            if let Err(failure) = pool.look(&self.client, self.started.elapsed()).await {
                debug!(pool = pool.name(), "nothing is decided: {failure}");
            }
        }
    }
}
