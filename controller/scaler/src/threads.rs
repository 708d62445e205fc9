//! Processors that are short: what is said of the worker threads of a pool's servers.
//!
//! A server has as many worker threads as its machine has cores from its start, since threads that wait
//! cost nothing; none are given or taken while it runs. What is left of scaling them first is to tell
//! apart servers that could have more from a machine whose cores are all in use, where more servers
//! would share them.

use pocket_policy::{Arbiter, Decision, Pool, ScalingSettings};
use pocket_proto::control::ServerStatus;

/// Looks at the processors of a pool's busiest server.
pub(crate) struct Threads {
    arbiter: Arbiter,
    threads_max: u32,
    /// Below, what was told is over.
    low_permille: u32,
    told: Option<String>,
}

impl Threads {
    /// `threads_max`: cores of the machine that the servers run on.
    pub(crate) fn new(scaling: ScalingSettings, threads_max: u32) -> Self {
        let threads_max = threads_max.max(1);
        Threads {
            arbiter: Arbiter::new(ScalingSettings {
                servers_min: 1,
                servers_max: 2,
                threads_max,
                ..scaling
            }),
            threads_max,
            low_permille: scaling.cpu.low_permille,
            told: None,
        }
    }

    /// What to say, once for a load that lasts: a sentence. Time as for [`Arbiter::decide`].
    pub(crate) fn decide(&mut self, servers: &[ServerStatus], now_ms: u64) -> Option<String> {
        let usages = servers.iter().filter_map(|server| server.usage);
        let busiest = usages
            .filter(|usage| usage.threads > 0)
            .max_by_key(|usage| usage.cpu_permille)?;
        if busiest.cpu_permille < self.low_permille {
            self.told = None;
        }
        let pool = Pool {
            servers: 1,
            threads: busiest.threads,
            cpu_permille: busiest.cpu_permille,
            ..Pool::default()
        };
        let Decision::Scale {
            threads, reason, ..
        } = self.arbiter.decide(&pool, now_ms)
        else {
            return None;
        };
        let (has, most) = (busiest.threads, self.threads_max);
        let sentence = match (has < most, threads) {
            (true, more) if more > has => format!(
                "{reason}: the busiest server has {has} worker threads, {more} would do (start it \
                 with as many cores)"
            ),
            (false, same) if same >= has => format!(
                "{reason}: a server has {has} worker threads, one for each core there is; more servers \
                 on this machine would share them"
            ),
            // Less would do as well: idle threads cost nothing.
            _ => return None,
        };
        let is_new = self.told.as_ref() != Some(&sentence);
        self.told = Some(sentence.clone());
        is_new.then_some(sentence)
    }
}

#[cfg(test)]
mod tests {
    use pocket_proto::control::Usage;

    use super::*;

    fn server(threads: u32, cpu_permille: u32) -> ServerStatus {
        ServerStatus {
            usage: Some(Usage {
                threads,
                cpu_permille,
                ..Usage::default()
            }),
            ..ServerStatus::default()
        }
    }

    /// What is said in a minute of this.
    fn said(servers: &[ServerStatus]) -> Vec<String> {
        let mut threads = Threads::new(ScalingSettings::default(), 4);
        let looks = (0..120).map(|look| look * 500);
        looks
            .filter_map(|now_ms| threads.decide(servers, now_ms))
            .collect()
    }

    #[test]
    fn processors_that_are_short_are_told_once_and_what_would_help() {
        let more = "cpu was above its range for 3 s: the busiest server has 2 worker threads, 3 would \
                    do (start it with as many cores)";
        assert_eq!(said(&[server(4, 100), server(2, 900)]), [more]);
        let shared = "cpu was above its range for 3 s: a server has 4 worker threads, one for each core \
                      there is; more servers on this machine would share them";
        assert_eq!(said(&[server(4, 900), server(2, 100)]), [shared]);
    }

    #[test]
    fn of_processors_in_their_range_idle_or_unknown_nothing_is_said() {
        for servers in [
            vec![],
            vec![server(4, 700)],
            vec![server(4, 0)],
            vec![server(0, 0), ServerStatus::default()],
        ] {
            assert_eq!(said(&servers), Vec::<String>::new());
        }
    }
}
