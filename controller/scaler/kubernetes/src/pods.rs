//! What a pod of the set says about the server in it.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use pocket_scaler::{DRAINED, InstanceState};

/// The name of the container's port that mounts reach the server at.
pub(crate) const PORT_NAME: &str = "storage";

/// A pod of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerPod {
    pub(crate) name: String,
    pub(crate) ordinal: u32,
    pub(crate) uid: String,
    pub(crate) version: String,
    /// Where the server is reached, once it is.
    pub(crate) endpoint: Option<String>,
    pub(crate) condition: Condition,
}

/// How the server in a pod is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// As any server.
    Is(InstanceState),
    /// It was drained: nothing serves here any more, in this life of the pod.
    Drained,
}

impl ServerPod {
    /// Reads a pod; none if it is not one of this set's.
    pub(crate) fn read(pod: &Pod, set: &str) -> Option<Self> {
        let metadata = &pod.metadata;
        let name = metadata.name.as_deref()?;
        let ordinal = name.strip_prefix(set)?.strip_prefix('-')?.parse().ok()?;
        let owners = metadata.owner_references.as_deref().unwrap_or_default();
        let owned = owners.iter().any(|owner| {
            owner.kind == "StatefulSet" && owner.name == set && owner.controller == Some(true)
        });
        if !owned {
            return None;
        }
        let condition = condition(pod);
        let running = condition == Condition::Is(InstanceState::Running);
        Some(ServerPod {
            name: name.to_owned(),
            ordinal,
            uid: metadata.uid.clone().unwrap_or_default(),
            version: metadata.resource_version.clone().unwrap_or_default(),
            endpoint: endpoint(pod).filter(|_| running),
            condition,
        })
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.condition == Condition::Drained
    }
}

fn endpoint(pod: &Pod) -> Option<String> {
    let (_, port) = server_port(pod)?;
    let ip: IpAddr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    Some(match ip {
        IpAddr::V4(ip) => format!("{ip}:{port}"),
        IpAddr::V6(ip) => format!("[{ip}]:{port}"),
    })
}

/// The server's container and its port.
fn server_port(pod: &Pod) -> Option<(&str, i32)> {
    let containers = pod.spec.as_ref()?.containers.iter();
    let mut ports = containers.flat_map(|container| {
        let ports = container.ports.iter().flatten();
        ports.map(|port| (container.name.as_str(), port))
    });
    let (container, port) = ports.find(|(_, port)| port.name.as_deref() == Some(PORT_NAME))?;
    Some((container, port.container_port))
}

fn condition(pod: &Pod) -> Condition {
    // Its set makes it anew, as a fresh server, whatever becomes of this one.
    if pod.metadata.deletion_timestamp.is_some() {
        return Condition::Is(InstanceState::Starting);
    }
    let Some(status) = &pod.status else {
        return Condition::Is(InstanceState::Starting);
    };
    let container = server_port(pod).map(|(container, _)| container);
    let mut statuses = status.container_statuses.iter().flatten();
    let server = statuses.find(|status| Some(status.name.as_str()) == container);
    if server.is_some_and(was_drained) {
        return Condition::Drained;
    }
    let ready = status.conditions.iter().flatten();
    let ready = ready
        .filter(|condition| condition.type_ == "Ready")
        .any(|condition| condition.status == "True");
    Condition::Is(match server.and_then(crash) {
        _ if ready => InstanceState::Running,
        Some(crashed) => crashed,
        None if status.phase.as_deref() == Some("Failed") => InstanceState::Crashed {
            times: 1,
            how: status.reason.clone().unwrap_or_else(|| "failed".to_owned()),
        },
        None => InstanceState::Starting,
    })
}

/// Whether the server's last word is that it was drained.
fn was_drained(server: &ContainerStatus) -> bool {
    let states = [&server.state, &server.last_state];
    let ends = states.into_iter().flatten().flat_map(|s| &s.terminated);
    let words = ends.filter_map(|end| end.message.as_deref());
    words.map(str::trim).any(|word| word == DRAINED)
}

/// How the server ended or why it cannot start, if one of that holds now.
fn crash(server: &ContainerStatus) -> Option<InstanceState> {
    let state = server.state.as_ref()?;
    let last = server
        .last_state
        .as_ref()
        .and_then(|s| s.terminated.as_ref());
    let how = match (&state.terminated, &state.waiting) {
        (Some(end), _) => format!("it ended with code {}", end.exit_code),
        (None, Some(waiting)) => {
            let reason = waiting.reason.as_deref().unwrap_or_default();
            // What any container waits for before it starts.
            if matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
                return None;
            }
            match last {
                Some(end) => format!("{reason}: it ended with code {}", end.exit_code),
                None => format!("{reason}: {}", waiting.message.as_deref().unwrap_or("")),
            }
        }
        (None, None) => return None,
    };
    let times = u32::try_from(server.restart_count).unwrap_or(0).max(1);
    Some(InstanceState::Crashed { times, how })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(status: Value) -> ServerPod {
        ServerPod::read(&pod(status), "storage").expect("it is one of the set's")
    }

    fn pod(status: Value) -> Pod {
        let pod = json!({
            "metadata": {
                "name": "storage-3", "uid": "u3", "resourceVersion": "17",
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet",
                    "name": "storage", "uid": "s", "controller": true}]
            },
            "spec": {"containers": [
                {"name": "beside", "ports": [{"containerPort": 1}]},
                {"name": "server", "ports": [{"name": "storage", "containerPort": 7303}]}
            ]},
            "status": status
        });
        serde_json::from_value(pod).expect("a pod")
    }

    fn server(state: Value, last: Value) -> Value {
        json!([
            {"name": "beside", "image": "", "imageID": "", "ready": true, "restartCount": 0,
             "lastState": {"terminated": {"exitCode": 0, "message": DRAINED}}},
            {"name": "server", "image": "", "imageID": "", "ready": false, "restartCount": 2,
             "state": state, "lastState": last}
        ])
    }

    #[test]
    fn a_pod_that_is_ready_runs_where_its_port_is() {
        let conditions = json!([{"type": "Ready", "status": "True"}]);
        let four = read(json!({"podIP": "10.1.2.3", "conditions": conditions}));
        assert_eq!(
            (four.ordinal, four.endpoint.as_deref()),
            (3, Some("10.1.2.3:7303"))
        );
        let six = read(json!({"podIP": "fd00::7", "conditions": conditions}));
        assert_eq!(six.endpoint.as_deref(), Some("[fd00::7]:7303"));
        assert_eq!(six.condition, Condition::Is(InstanceState::Running));
        let not_yet = read(json!({"podIP": "10.1.2.3"}));
        assert_eq!(
            (not_yet.endpoint, not_yet.condition),
            (None, Condition::Is(InstanceState::Starting))
        );
    }

    #[test]
    fn only_the_servers_own_last_word_says_that_it_was_drained() {
        let drained = json!({"terminated": {"exitCode": 0, "message": DRAINED}});
        let ended = json!({"terminated": {"exitCode": 0, "message": ""}});
        let running = json!({"running": {}});
        for (state, last, is) in [
            (&drained, &json!({}), true),
            (&running, &drained, true),
            (&running, &ended, false),
            (&ended, &json!({}), false),
        ] {
            let statuses = server(state.clone(), last.clone());
            let pod = read(json!({"containerStatuses": statuses}));
            assert_eq!(pod.is_drained(), is, "{state} {last}");
        }
        // One that is being deleted comes back as a fresh server.
        let mut going = pod(json!({"containerStatuses": server(running, drained)}));
        let now = k8s_openapi::jiff::Timestamp::now();
        going.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
        let going = ServerPod::read(&going, "storage").expect("the set's");
        assert_eq!(going.condition, Condition::Is(InstanceState::Starting));
    }

    #[test]
    fn crashes_are_told_with_how_and_how_often() {
        let last = json!({"terminated": {"exitCode": 137}});
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let pod = read(json!({"containerStatuses": server(waiting, last)}));
        let how = "CrashLoopBackOff: it ended with code 137".to_owned();
        assert_eq!(
            pod.condition,
            Condition::Is(InstanceState::Crashed { times: 2, how })
        );
        let creating = json!({"waiting": {"reason": "ContainerCreating"}});
        let pod = read(json!({"containerStatuses": server(creating, json!({}))}));
        assert_eq!(pod.condition, Condition::Is(InstanceState::Starting));
        let pod = read(json!({"phase": "Failed", "reason": "Evicted"}));
        let how = "Evicted".to_owned();
        assert_eq!(
            pod.condition,
            Condition::Is(InstanceState::Crashed { times: 1, how })
        );
    }

    #[test]
    fn pods_of_others_are_none_of_ours() {
        let ours = pod(json!({}));
        for set in ["storag", "storage-3", "other"] {
            assert_eq!(ServerPod::read(&ours, set), None, "{set}");
        }
        let mut orphan = ours;
        orphan.metadata.owner_references = None;
        assert_eq!(ServerPod::read(&orphan, "storage"), None);
    }
}
