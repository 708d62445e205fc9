//! The manifests as they are shipped: read as the published types, and against each other.

#![allow(clippy::unwrap_used)]

mod kit;

use std::collections::BTreeSet;

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{
        ConfigMap, Container, Namespace, PodSpec, PodTemplateSpec, Service, ServiceAccount,
    },
    policy::v1::PodDisruptionBudget,
    rbac::v1::{Role, RoleBinding},
};
use kit::{Manifest, SET, manifests, strictly};
use serde_json::{Value, json};

/// What runs pods, with their template.
fn workloads() -> Vec<(String, PodTemplateSpec)> {
    let manifests = manifests();
    let workloads = manifests.iter().filter_map(|manifest| {
        let template = match manifest.kind() {
            "StatefulSet" => {
                strictly::<StatefulSet>(&manifest.object)
                    .unwrap()
                    .spec?
                    .template
            }
            "Deployment" => {
                strictly::<Deployment>(&manifest.object)
                    .unwrap()
                    .spec?
                    .template
            }
            _ => return None,
        };
        Some((manifest.name().to_owned(), template))
    });
    workloads.collect()
}

fn containers() -> Vec<(String, PodSpec, Container)> {
    let each = workloads().into_iter().flat_map(|(name, template)| {
        let spec = template.spec.unwrap();
        let containers = spec.containers.clone().into_iter();
        containers.map(move |container| (name.clone(), spec.clone(), container))
    });
    each.collect()
}

fn labels_of(manifest: &Manifest, path: &str) -> Value {
    manifest.object.pointer(path).unwrap().clone()
}

#[test]
fn every_manifest_is_of_a_published_type_and_says_nothing_that_this_does_not_know() {
    for manifest in manifests() {
        let object = &manifest.object;
        let read = match manifest.kind() {
            "ConfigMap" => strictly::<ConfigMap>(object).map(drop),
            "Deployment" => strictly::<Deployment>(object).map(drop),
            "Namespace" => strictly::<Namespace>(object).map(drop),
            "PodDisruptionBudget" => strictly::<PodDisruptionBudget>(object).map(drop),
            "Role" => strictly::<Role>(object).map(drop),
            "RoleBinding" => strictly::<RoleBinding>(object).map(drop),
            "Service" => strictly::<Service>(object).map(drop),
            "ServiceAccount" => strictly::<ServiceAccount>(object).map(drop),
            "StatefulSet" => strictly::<StatefulSet>(object).map(drop),
            other => panic!("{}: {other} is not looked at", manifest.file),
        };
        read.unwrap_or_else(|error| panic!("{} {}: {error}", manifest.file, manifest.name()));
    }
}

#[test]
fn a_word_that_is_misspelt_is_found() {
    let set = manifests()
        .into_iter()
        .find(|m| m.name() == SET && m.kind() == "StatefulSet");
    let mut set = set.unwrap().object;
    assert!(strictly::<StatefulSet>(&set).is_ok());
    set["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = json!({});
    let found = strictly::<StatefulSet>(&set).unwrap_err();
    assert!(found.contains("readynessProbe is not known"), "{found}");
}

#[test]
fn kustomize_takes_every_file() {
    let text = std::fs::read_to_string(kit::folder().join("kustomization.yaml")).unwrap();
    let kustomization: Value = serde_saphyr::from_str(&text).unwrap();
    let named = kustomization["resources"].as_array().unwrap().iter();
    let named: BTreeSet<_> = named
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    let there: BTreeSet<_> = manifests().into_iter().map(|m| m.file).collect();
    assert_eq!(named, there);
}

#[test]
fn nothing_has_a_privilege_and_all_have_limits() {
    let containers = containers();
    assert_eq!(containers.len(), 5);
    for (name, pod, container) in containers {
        let of_pod = pod.security_context.unwrap();
        assert_eq!(of_pod.run_as_non_root, Some(true), "{name}");
        assert_eq!(
            of_pod.seccomp_profile.unwrap().type_,
            "RuntimeDefault",
            "{name}"
        );
        let own = container.security_context.unwrap();
        assert_eq!(own.allow_privilege_escalation, Some(false), "{name}");
        assert_eq!(own.read_only_root_filesystem, Some(true), "{name}");
        assert_eq!(own.capabilities.unwrap().drop.unwrap(), ["ALL"], "{name}");
        assert!(
            own.privileged.is_none() && pod.host_network.is_none(),
            "{name}"
        );
        let resources = container.resources.unwrap();
        assert!(resources.requests.unwrap().contains_key("cpu"), "{name}");
        assert!(resources.limits.unwrap().contains_key("memory"), "{name}");
        let talks = name == "pocket-scaler";
        assert_eq!(pod.automount_service_account_token, Some(talks), "{name}");
        assert!(container.readiness_probe.is_some(), "{name}");
        // What is lost with a process is not ended because a probe fails.
        let keeps = name.starts_with("pocket-storage") || name == "pocket-metadata";
        assert_eq!(container.liveness_probe.is_none(), keeps, "{name}");
        if name != "pocket-controller" {
            assert!(
                pod.affinity.is_some() && pod.topology_spread_constraints.is_some(),
                "{name}"
            );
        }
    }
}

#[test]
fn probes_services_and_claims_name_what_there_is() {
    for (name, pod, container) in containers() {
        let ports: BTreeSet<_> = container
            .ports
            .iter()
            .flatten()
            .map(|p| p.name.clone())
            .collect();
        let probes = [&container.readiness_probe, &container.liveness_probe];
        for probe in probes.into_iter().flatten() {
            let probe = serde_json::to_value(probe).unwrap();
            let port = ["/tcpSocket/port", "/httpGet/port"];
            let port = port.iter().find_map(|at| probe.pointer(at)).unwrap();
            assert!(
                ports.contains(&port.as_str().map(str::to_owned)),
                "{name}: {port}"
            );
        }
        let volumes = pod
            .volumes
            .unwrap_or_default()
            .into_iter()
            .map(|volume| volume.name);
        let mut volumes: BTreeSet<_> = volumes.collect();
        for manifest in manifests() {
            let claims = manifest.object.pointer("/spec/volumeClaimTemplates");
            if manifest.name() == name && manifest.kind() == "StatefulSet" {
                let claims = claims.and_then(Value::as_array).into_iter().flatten();
                volumes.extend(claims.map(|c| c["metadata"]["name"].as_str().unwrap().to_owned()));
            }
        }
        let mounts = container.volume_mounts.unwrap_or_default();
        assert!(
            mounts.iter().all(|mount| volumes.contains(&mount.name)),
            "{name}"
        );
    }
    let manifests = manifests();
    let templates: Vec<_> = workloads()
        .into_iter()
        .map(|(_, template)| json!(template.metadata.unwrap().labels.unwrap()))
        .collect();
    for manifest in &manifests {
        let selector = match manifest.kind() {
            "Service" => labels_of(manifest, "/spec/selector"),
            "PodDisruptionBudget" | "StatefulSet" | "Deployment" => {
                labels_of(manifest, "/spec/selector/matchLabels")
            }
            _ => continue,
        };
        let meant = templates
            .iter()
            .filter(|labels| **labels == selector)
            .count();
        assert_eq!(meant, 1, "{} {}", manifest.kind(), manifest.name());
    }
    let named = |kind: &str| -> BTreeSet<_> {
        let of_kind = manifests.iter().filter(|manifest| manifest.kind() == kind);
        of_kind.map(|manifest| manifest.name().to_owned()).collect()
    };
    let workloads: BTreeSet<_> = workloads().into_iter().map(|(name, _)| name).collect();
    assert_eq!(named("PodDisruptionBudget"), workloads, "each has a budget");
    let services = named("Service");
    for manifest in manifests.iter().filter(|m| m.kind() == "StatefulSet") {
        let service = manifest.object["spec"]["serviceName"].as_str().unwrap();
        assert!(services.contains(service), "{service}");
    }
}

#[test]
fn a_storage_pod_says_that_it_was_drained_where_it_is_looked_for() {
    for (name, pod, container) in containers() {
        if !name.starts_with("pocket-storage") {
            continue;
        }
        let arguments = container.args.unwrap();
        let notes: Vec<_> = arguments
            .windows(2)
            .filter(|pair| pair[0] == "--drained-note")
            .map(|pair| pair[1].as_str())
            .collect();
        // The default path of termination messages, and what outlives the process but not the pod.
        assert_eq!(
            notes,
            ["/run/pocket/drained", "/dev/termination-log"],
            "{name}"
        );
        assert!(container.termination_message_path.is_none(), "{name}");
        let volumes = pod.volumes.unwrap();
        let run = volumes.iter().find(|volume| volume.name == "run").unwrap();
        assert!(run.empty_dir.is_some(), "{name}");
        let hook = container.lifecycle.unwrap().pre_stop.unwrap().exec.unwrap();
        assert_eq!(
            hook.command.unwrap()[..3],
            ["pocket", "node", "drain"],
            "{name}"
        );
        assert!(pod.termination_grace_period_seconds > Some(60), "{name}");
    }
    // Who scales a set must be alone in saying how many there are.
    let set = manifests()
        .into_iter()
        .find(|m| m.name() == SET && m.kind() == "StatefulSet");
    assert!(set.unwrap().object["spec"]["replicas"].is_null());
}
