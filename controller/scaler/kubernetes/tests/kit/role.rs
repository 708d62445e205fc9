//! The Role as it is shipped: the server refuses what its rules do not allow.

use k8s_openapi::api::rbac::v1::{PolicyRule, Role as Shipped};

use super::{
    manifests::{manifests, strictly},
    objects::Request,
};

/// Rules of a Role.
#[derive(Clone, Debug)]
pub struct Role {
    pub rules: Vec<PolicyRule>,
}

impl Role {
    /// The scaler's.
    pub fn shipped() -> Self {
        let manifests = manifests();
        let role = manifests.iter().find(|m| m.kind() == "Role").unwrap();
        let role: Shipped = strictly(&role.object).unwrap();
        Role {
            rules: role.rules.unwrap_or_default(),
        }
    }

    /// The rule that allows a request, by its number.
    pub fn allowing(&self, request: &Request) -> Option<usize> {
        self.rules.iter().position(|rule| allows(rule, request))
    }
}

fn allows(rule: &PolicyRule, request: &Request) -> bool {
    let says = |list: &Option<Vec<String>>, word: &str| {
        list.iter()
            .flatten()
            .any(|said| said == word || said == "*")
    };
    let (group, resource) = request.kind.names();
    let resource = match &request.subresource {
        Some(subresource) => format!("{resource}/{subresource}"),
        None => resource.to_owned(),
    };
    let names = rule.resource_names.as_deref().unwrap_or_default();
    let named = names.is_empty()
        || request
            .name
            .as_ref()
            .is_some_and(|name| names.contains(name));
    says(&rule.api_groups, group)
        && says(&rule.resources, &resource)
        && rule.verbs.iter().any(|verb| verb == request.verb.name())
        && named
}
