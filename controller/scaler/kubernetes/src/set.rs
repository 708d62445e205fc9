//! The StatefulSet, and what it and its pods come to together.

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::api::apps::v1::StatefulSet;
use pocket_scaler::{Instance, InstanceState};

use crate::pods::{Condition, PORT_NAME, ServerPod};

/// The set as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerSet {
    pub(crate) replicas: u32,
    /// The lowest ordinal.
    pub(crate) first: u32,
    /// Of the object, for changes of it.
    pub(crate) version: String,
}

impl ServerSet {
    pub(crate) fn read(set: &StatefulSet) -> Self {
        let spec = set.spec.as_ref();
        let number = |number: Option<i32>, otherwise| {
            number.map_or(otherwise, |number| u32::try_from(number).unwrap_or(0))
        };
        let ordinals = spec.and_then(|spec| spec.ordinals.as_ref());
        ServerSet {
            replicas: number(spec.and_then(|spec| spec.replicas), 1),
            first: number(ordinals.and_then(|ordinals| ordinals.start), 0),
            version: set.metadata.resource_version.clone().unwrap_or_default(),
        }
    }

    /// The servers that there are or shall be, but for those that were drained. Of a pod in `fresh`
    /// (by uid) it is known that it will be made anew.
    pub(crate) fn instances(
        &self,
        set: &str,
        pods: &[ServerPod],
        fresh: &HashSet<String>,
    ) -> Vec<Instance> {
        let by_ordinal: BTreeMap<_, _> = pods.iter().map(|pod| (pod.ordinal, pod)).collect();
        let ordinals = self.first..self.first.saturating_add(self.replicas);
        let instance = |ordinal: u32| {
            let pod = by_ordinal.get(&ordinal);
            let (state, endpoint) = match pod.map(|pod| (&pod.condition, pod)) {
                None => (InstanceState::Starting, None),
                Some((_, pod)) if fresh.contains(&pod.uid) => (InstanceState::Starting, None),
                Some((Condition::Drained, _)) => return None,
                Some((Condition::Is(state), pod)) => (state.clone(), pod.endpoint.clone()),
            };
            Some(Instance {
                name: format!("{set}-{ordinal}"),
                endpoint,
                state,
                rank: ordinal,
            })
        };
        ordinals.filter_map(instance).collect()
    }

    /// How many `replicas` there can be without the drained pods at the top.
    pub(crate) fn needed(&self, pods: &[ServerPod]) -> u32 {
        let drained: HashSet<u32> = pods
            .iter()
            .filter(|pod| pod.is_drained())
            .map(|pod| pod.ordinal)
            .collect();
        let mut needed = self.replicas;
        while needed > 0 && drained.contains(&(self.first.saturating_add(needed) - 1)) {
            needed -= 1;
        }
        needed
    }
}

/// Says what keeps servers from being scaled through this set, and what to do about it.
pub(crate) fn check(set: &StatefulSet) -> Result<(), String> {
    let spec = set.spec.as_ref().ok_or("it has no spec")?;
    if spec.pod_management_policy.as_deref() != Some("Parallel") {
        return Err(
            "its podManagementPolicy is not Parallel: with any other, a pod that was drained keeps \
             those above it from being started and removed"
                .to_owned(),
        );
    }
    let template = spec.template.spec.as_ref();
    let containers = template.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    match ports.any(|port| port.name.as_deref() == Some(PORT_NAME)) {
        true => Ok(()),
        false => Err(format!(
            "no container has a port of the name '{PORT_NAME}': name the one that mounts use so"
        )),
    }
}

/// The pods of the set, as a selector of a request.
pub(crate) fn selector(set: &StatefulSet) -> Result<String, String> {
    let selector = set.spec.as_ref().map(|spec| &spec.selector);
    let labels = selector.and_then(|selector| selector.match_labels.as_ref());
    let terms: Vec<_> = labels
        .into_iter()
        .flatten()
        .map(|(label, value)| format!("{label}={value}"))
        .collect();
    match terms.is_empty() {
        true => Err("its selector has no matchLabels".to_owned()),
        false => Ok(terms.join(",")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(ordinal: u32, condition: Condition) -> ServerPod {
        ServerPod {
            name: format!("s-{ordinal}"),
            ordinal,
            uid: format!("u{ordinal}"),
            version: "1".to_owned(),
            endpoint: None,
            condition,
        }
    }

    fn set(first: u32, replicas: u32) -> ServerSet {
        ServerSet {
            replicas,
            first,
            version: "1".to_owned(),
        }
    }

    const RUNS: Condition = Condition::Is(InstanceState::Running);

    #[test]
    fn only_drained_pods_at_the_top_can_go() {
        use Condition::Drained;
        for (pods, needed) in [
            (vec![RUNS, RUNS, RUNS], 3),
            (vec![RUNS, RUNS, Drained], 2),
            (vec![RUNS, Drained, RUNS], 3),
            (vec![Drained, RUNS, Drained], 2),
            (vec![RUNS, Drained, Drained], 1),
            (vec![Drained, Drained, Drained], 0),
            // One that is not there yet is not known to be empty.
            (vec![RUNS, Drained], 3),
        ] {
            for first in [0, 5] {
                let pods = (first..).zip(pods.clone());
                let pods: Vec<_> = pods.map(|(at, is)| pod(at, is)).collect();
                assert_eq!(set(first, 3).needed(&pods), needed, "{pods:?}");
            }
        }
    }

    #[test]
    fn what_shall_be_there_is_shown_and_what_was_drained_is_not() {
        let pods = [
            pod(1, RUNS),
            pod(2, Condition::Drained),
            pod(3, Condition::Drained),
            pod(9, RUNS),
        ];
        let fresh = HashSet::from(["u3".to_owned()]);
        let shown = set(0, 5).instances("s", &pods, &fresh);
        let shown: Vec<_> = shown.iter().map(|i| (i.rank, &i.state)).collect();
        use InstanceState::{Running, Starting};
        assert_eq!(
            shown,
            [
                (0, &Starting),
                (1, &Running),
                (3, &Starting),
                (4, &Starting)
            ]
        );
    }

    #[test]
    fn a_set_that_cannot_be_scaled_is_refused_with_the_reason() {
        let set = |policy: &str, port: &str| -> StatefulSet {
            serde_json::from_value(serde_json::json!({
                "metadata": {},
                "spec": {
                    "podManagementPolicy": policy,
                    "serviceName": "s",
                    "selector": {"matchLabels": {"a": "b", "c": "d"}},
                    "template": {"spec": {"containers": [
                        {"name": "s", "ports": [{"name": port, "containerPort": 1}]}
                    ]}}
                }
            }))
            .expect("a set")
        };
        let good = set("Parallel", "storage");
        assert_eq!(check(&good), Ok(()));
        assert_eq!(selector(&good).as_deref(), Ok("a=b,c=d"));
        let ordered = check(&set("OrderedReady", "storage")).unwrap_err();
        assert!(ordered.contains("Parallel"), "{ordered}");
        let unnamed = check(&set("Parallel", "data")).unwrap_err();
        assert!(unnamed.contains("'storage'"), "{unnamed}");
    }
}
