//! What a trace is run against: limits of the cluster, and what jobs say about themselves.

use pocket_policy::{Catalogue, Range, ScalingSettings};
use pocket_proto::control::Hints;

use crate::TraceJob;

/// Which of its true needs a job gives as hints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HintMode {
    /// Nothing.
    None,
    /// The number of tasks.
    Tasks,
    /// That and whether latency matters.
    Latency,
    /// These, capacity and bandwidth.
    Full,
    /// As full, but of capacity and bandwidth only so many percent.
    Understated(u32),
}

/// Settings of a run. In a trace: `set NAME VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// `hints`: none, tasks, latency, full, or a percentage as 60%.
    pub hints: HintMode,
    /// `servers-min`: never fewer servers, of the type named by `servers-min-type`.
    pub servers_min: u32,
    /// `servers-min-type`: a node type.
    pub servers_min_type: String,
    /// `servers-max`: never more in all.
    pub servers_max: u32,
    /// `TYPE-max`: never more of a node type, by name.
    pub type_max: Vec<(String, u32)>,
    /// `start-ms`: how long a server takes to start (paper: 3 to 4 s in a warm container).
    pub start_ms: u64,
    /// `down-ms`: for how long everything must be plenty before servers go.
    pub window_down_ms: u64,
    /// `cool-down-ms`: between two changes of a pool.
    pub cool_down_ms: u64,
    /// `low-permille` and `high-permille`: the target range of every resource.
    pub range: Range,
    /// `learn`: yes or no: whether ended runs are remembered.
    pub learn: bool,
    /// Node types and prices.
    pub catalogue: Catalogue,
}

impl Default for Scenario {
    fn default() -> Self {
        let scaling = ScalingSettings::default();
        Scenario {
            hints: HintMode::Full,
            servers_min: 0,
            servers_min_type: "nvme".to_owned(),
            servers_max: 5_000,
            type_max: Vec::new(),
            start_ms: 4_000,
            window_down_ms: scaling.window_down_ms,
            cool_down_ms: scaling.cool_down_ms,
            range: Range::default(),
            learn: true,
            catalogue: Catalogue::default(),
        }
    }
}

impl Scenario {
    /// Takes one setting; an error is a sentence that says what may be set and how.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let number = |most: u64| match value.parse::<u64>() {
            Ok(number) if number <= most => Ok(number),
            _ => Err(format!(
                "{name} '{value}' is not a number from 0 to {most}: correct it"
            )),
        };
        match name {
            "hints" => self.hints = hint_mode(value)?,
            "servers-min" => self.servers_min = number(100_000)? as u32,
            "servers-min-type" => self.servers_min_type = self.node_type(name, value)?,
            "servers-max" => self.servers_max = number(100_000)? as u32,
            "start-ms" => self.start_ms = number(600_000)?,
            "down-ms" => self.window_down_ms = number(86_400_000)?,
            "cool-down-ms" => self.cool_down_ms = number(86_400_000)?,
            "low-permille" => self.range.low_permille = number(1_000)? as u32,
            "high-permille" => self.range.high_permille = number(1_000)? as u32,
            "learn" => {
                self.learn = match value {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(format!("learn '{value}': write yes or no")),
                }
            }
            _ => {
                let Some(node) = name.strip_suffix("-max") else {
                    return Err(format!(
                        "'{name}' cannot be set: there are hints, servers-min, servers-min-type, \
                         servers-max, TYPE-max, start-ms, down-ms, cool-down-ms, low-permille, \
                         high-permille and learn"
                    ));
                };
                let node = self.node_type(name, node)?;
                let most = number(100_000)? as u32;
                self.type_max.retain(|(known, _)| *known != node);
                self.type_max.push((node, most));
            }
        }
        Ok(())
    }

    /// Checks what settings mean together.
    pub fn check(&self) -> Result<(), String> {
        if self.range.low_permille >= self.range.high_permille {
            return Err(format!(
                "low-permille {} is not below high-permille {}: correct one of them",
                self.range.low_permille, self.range.high_permille
            ));
        }
        if self.range.low_permille == 0 {
            let reason = "low-permille is 0, so that no server is ever removed: give at least 1";
            return Err(reason.to_owned());
        }
        if self.servers_min > self.servers_max {
            return Err(format!(
                "servers-min {} is more than servers-max {}: correct one of them",
                self.servers_min, self.servers_max
            ));
        }
        if self.servers_max == 0 {
            return Err("servers-max is 0, so that no job can run: give at least 1".to_owned());
        }
        if self.servers_min > 0 {
            self.node_type("servers-min-type", &self.servers_min_type)?;
        }
        Ok(())
    }

    /// Servers of the node type at this place of the table that there always are.
    pub(crate) fn minimum(&self, node: usize) -> u32 {
        match self.catalogue.nodes[node].name == self.servers_min_type {
            true => self.servers_min,
            false => 0,
        }
    }

    /// Servers of the node type at this place of the table that there may be.
    pub(crate) fn limit(&self, node: usize) -> u32 {
        let name = &self.catalogue.nodes[node].name;
        let limit = self.type_max.iter().find(|(limited, _)| limited == name);
        limit.map_or(u32::MAX, |(_, most)| *most)
    }

    /// What a job says about itself.
    pub fn hints_of(&self, job: &TraceJob) -> Hints {
        let part = |amount: u64, percent: u32| {
            let exact = u128::from(amount) * u128::from(percent) / 100;
            u64::try_from(exact).unwrap_or(u64::MAX).max(4_096)
        };
        let mut hints = Hints::default();
        if self.hints != HintMode::None {
            hints.max_tasks = Some(job.tasks);
        }
        if !matches!(self.hints, HintMode::None | HintMode::Tasks) {
            hints.latency_sensitive = Some(job.latency_sensitive);
        }
        let percent = match self.hints {
            HintMode::Full => Some(100),
            HintMode::Understated(percent) => Some(percent),
            _ => None,
        };
        if let Some(percent) = percent {
            hints.capacity_bytes = Some(part(job.peak.capacity_bytes, percent));
            hints.bandwidth_bytes_per_second = Some(part(job.peak.bytes_per_second, percent));
        }
        hints
    }

    fn node_type(&self, setting: &str, name: &str) -> Result<String, String> {
        match self.catalogue.named(name) {
            Some(node) => Ok(node.name.clone()),
            None => {
                let names: Vec<_> = self
                    .catalogue
                    .nodes
                    .iter()
                    .map(|node| node.name.as_str())
                    .collect();
                Err(format!(
                    "{setting}: '{name}' is not a node type of the price table: use {}",
                    names.join(", ")
                ))
            }
        }
    }
}

fn hint_mode(text: &str) -> Result<HintMode, String> {
    let percent = text
        .strip_suffix('%')
        .and_then(|number| number.parse().ok());
    Ok(match (text, percent) {
        ("none", _) => HintMode::None,
        ("tasks", _) => HintMode::Tasks,
        ("latency", _) => HintMode::Latency,
        ("full", _) => HintMode::Full,
        (_, Some(percent @ 1..=1_000)) => HintMode::Understated(percent),
        _ => {
            return Err(format!(
                "hints '{text}': write none, tasks, latency, full, or a percentage as 60%"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_taken_and_mistakes_named() {
        let mut scenario = Scenario::default();
        for (name, value) in [
            ("hints", "60%"),
            ("servers-max", "10"),
            ("servers-min", "2"),
            ("dram-max", "3"),
            ("start-ms", "0"),
            ("learn", "no"),
        ] {
            scenario.set(name, value).expect("can be set");
        }
        assert_eq!(scenario.hints, HintMode::Understated(60));
        assert_eq!(scenario.type_max, [("dram".to_owned(), 3)]);
        assert_eq!(scenario.check(), Ok(()));
        for (name, value, part) in [
            ("hints", "some", "write none, tasks"),
            ("hints", "0%", "as 60%"),
            ("servers-max", "-1", "from 0 to 100000"),
            ("servers-max", "9999999", "from 0 to 100000"),
            ("tape-max", "1", "use dram, nvme, ssd, hdd"),
            ("servers-min-type", "tape", "use dram"),
            ("learn", "maybe", "yes or no"),
            ("colour", "red", "there are hints"),
        ] {
            let sentence = scenario.set(name, value).expect_err(name);
            assert!(sentence.contains(part), "{sentence}");
        }
        scenario.set("servers-min", "11").expect("can be set");
        assert!(
            scenario
                .check()
                .expect_err("too many")
                .contains("servers-max 10")
        );
        scenario.set("servers-min", "0").expect("can be set");
        scenario.set("servers-max", "0").expect("can be set");
        let sentence = scenario.check().expect_err("nothing can run");
        assert!(sentence.contains("give at least 1"), "{sentence}");
        scenario.set("servers-max", "9").expect("can be set");
        // A type that is not in the table matters only to whoever wants servers of it.
        scenario.servers_min_type = "tape".to_owned();
        assert_eq!(scenario.check(), Ok(()));
        scenario.set("servers-min", "1").expect("can be set");
        let sentence = scenario.check().expect_err("no such type");
        assert!(
            sentence.contains("servers-min-type: 'tape' is not"),
            "{sentence}"
        );
        scenario
            .set("servers-min-type", "nvme")
            .expect("can be set");
        scenario.set("low-permille", "0").expect("can be set");
        let never = scenario.check().expect_err("never removes");
        assert!(never.contains("give at least 1"), "{never}");
        scenario.set("low-permille", "900").expect("can be set");
        assert!(
            scenario
                .check()
                .expect_err("crossed")
                .contains("high-permille 800")
        );
    }
}
