//! The rules for what runs in a cluster: pods that may do nothing they need not, probes that knock at the right door, a network
//! that is shut but for what is named.

use serde_json::Value;

use super::manifests::objects;

fn of_kind(kind: &str) -> Vec<Value> {
    let found: Vec<Value> = objects().into_iter().filter(|it| it["kind"] == kind).collect();
    assert!(!found.is_empty(), "there is a {kind}");
    found
}

fn name(object: &Value) -> String {
    format!("{} {}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
}

/// Each pod template, with the name of what makes pods of it.
fn templates() -> Vec<(String, Value)> {
    let makers = objects().into_iter().filter(|it| it["spec"]["template"]["spec"].is_object());
    let found: Vec<_> = makers.map(|it| (name(&it), it["spec"]["template"].clone())).collect();
    assert!(found.len() >= 2, "a manager and a job");
    found
}

/// Each container, with a name for it.
fn containers() -> Vec<(String, Value)> {
    let of = |(maker, template): (String, Value)| {
        let all = template["spec"]["containers"].as_array().unwrap().clone();
        all.into_iter().map(move |it| (format!("{maker} {}", it["name"].as_str().unwrap()), it))
    };
    templates().into_iter().flat_map(of).collect()
}

#[test]
fn pods_pass_the_restricted_level_and_more() {
    for (name, template) in templates() {
        let pod = &template["spec"];
        let context = &pod["securityContext"];
        assert_eq!(context["runAsNonRoot"], true, "{name}");
        for id in ["runAsUser", "runAsGroup", "fsGroup"] {
            assert_eq!(context[id], 65532, "{name}: {id}");
        }
        assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert_eq!(pod["enableServiceLinks"], false, "{name}");
        for forbidden in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod[forbidden].is_null(), "{name}: {forbidden}");
        }
        assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() >= 120, "{name}");
        assert!(pod["initContainers"].is_null(), "{name}: nothing runs before");
        for volume in pod["volumes"].as_array().unwrap() {
            assert!(volume["hostPath"].is_null(), "{name}: {volume}");
            let scratch = &volume["emptyDir"];
            assert!(scratch.is_null() || scratch["sizeLimit"].is_string(), "{name}: {volume}");
        }
        for taint in ["not-ready", "unreachable"] {
            let tolerated = pod["tolerations"].as_array().unwrap().iter();
            let found = tolerated.filter(|it| it["key"] == format!("node.kubernetes.io/{taint}")).collect::<Vec<_>>();
            assert!(matches!(found[..], [one] if one["tolerationSeconds"] == 30), "{name}: {taint}");
        }
        let notes = &template["metadata"]["annotations"];
        assert_eq!(notes["cluster-autoscaler.kubernetes.io/safe-to-evict"], "false", "{name}");
        assert_eq!(notes["karpenter.sh/do-not-disrupt"], "true", "{name}");
    }
}

#[test]
fn containers_may_do_nothing_that_they_need_not() {
    for (name, container) in containers() {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(context["privileged"], false, "{name}");
        assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]), "{name}");
        assert!(context["capabilities"]["add"].is_null(), "{name}");
        assert_eq!(container["imagePullPolicy"], "IfNotPresent", "{name}");
        let image = container["image"].as_str().unwrap();
        assert!(!image.ends_with(":latest"), "{name}: {image}");
        let resources = &container["resources"];
        assert!(resources["requests"]["cpu"].is_string() && resources["requests"]["memory"].is_string(), "{name}");
        assert_eq!(resources["limits"]["memory"], resources["requests"]["memory"], "{name}: what is asked for is had");
        assert!(resources["limits"]["cpu"].is_null(), "{name}: a worker that is throttled holds all up");
        // The image has no shell.
        assert!(container["lifecycle"].is_null() && container["command"].is_null(), "{name}");
    }
}

#[test]
fn probes_ask_the_admin_port_and_never_the_mesh() {
    for (name, container) in containers() {
        for (probe, path) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
            let asks = &container[probe];
            assert_eq!(asks["httpGet"]["port"], "admin", "{name}: {probe}");
            assert_eq!(asks["httpGet"]["path"], path, "{name}: {probe}");
            assert!(asks["tcpSocket"].is_null() && asks["exec"].is_null(), "{name}: {probe}");
        }
        let patience = |probe: &str, part: &str| container[probe][part].as_u64().unwrap();
        let starts = patience("startupProbe", "periodSeconds") * patience("startupProbe", "failureThreshold");
        let is_job = name.starts_with("StatefulSet");
        assert!(starts >= if is_job { 1800 } else { 300 }, "{name}: a restore may take long");
        assert!(patience("livenessProbe", "failureThreshold") >= 6, "{name}: a restart is a restart of all");
    }
}

#[test]
fn secrets_are_files_or_what_only_the_environment_can_give() {
    // The settings of a bucket have no other way in.
    const FROM_ENVIRONMENT: &[&str] = &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
    for (name, container) in containers() {
        assert!(container["envFrom"].is_null(), "{name}: each value is named");
        for variable in container["env"].as_array().unwrap() {
            let is_secret = !variable["valueFrom"]["secretKeyRef"].is_null();
            let known = variable["name"].as_str().unwrap();
            assert!(!is_secret || FROM_ENVIRONMENT.contains(&known), "{name}: {known}");
        }
        for mount in container["volumeMounts"].as_array().unwrap() {
            let path = mount["mountPath"].as_str().unwrap();
            let may_write = path == "/tmp" || path == "/var/lib/riverrun";
            assert!(may_write || mount["readOnly"] == true, "{name}: {path}");
        }
    }
    for (name, template) in templates() {
        for volume in template["spec"]["volumes"].as_array().unwrap() {
            assert!(volume["secret"].is_null(), "{name}: a secret is projected, key by key");
            for source in volume["projected"]["sources"].as_array().into_iter().flatten() {
                assert!(source["secret"]["items"].is_array(), "{name}: {source}");
            }
        }
    }
    assert!(objects().iter().all(|it| it["kind"] != "Secret"), "none is checked in");
}

#[test]
fn a_mesh_comes_up_at_once_and_goes_down_at_once() {
    for set in of_kind("StatefulSet") {
        let name = name(&set);
        assert_eq!(set["spec"]["podManagementPolicy"], "Parallel", "{name}");
        assert_eq!(set["spec"]["updateStrategy"]["type"], "OnDelete", "{name}");
        let service = &set["spec"]["serviceName"];
        let headless =
            of_kind("Service").into_iter().find(|it| it["metadata"]["name"] == *service).expect("its service");
        assert_eq!(headless["spec"]["clusterIP"], "None", "{name}");
        assert_eq!(
            headless["spec"]["publishNotReadyAddresses"], true,
            "{name}: peers find each other before they are ready"
        );
        let spread = &set["spec"]["template"]["spec"]["topologySpreadConstraints"];
        assert!(spread.as_array().unwrap().iter().all(|it| it["whenUnsatisfiable"] == "ScheduleAnyway"), "{name}");
        let env = set["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
        assert!(env.iter().any(|it| it["name"] == "RIVERRUN_MESH_TLS"), "{name}: encrypted unless one says otherwise");
    }
    for budget in of_kind("PodDisruptionBudget") {
        assert_eq!(budget["spec"]["maxUnavailable"], 1, "0 would keep nodes from being drained");
        assert_eq!(budget["spec"]["unhealthyPodEvictionPolicy"], "AlwaysAllow");
    }
    let managers: Vec<Value> = of_kind("Deployment");
    assert!(managers.iter().all(|it| it["spec"]["replicas"] == 1 && it["spec"]["strategy"]["type"] == "Recreate"));
}

#[test]
fn the_network_is_shut_but_for_what_is_named() {
    let policies = of_kind("NetworkPolicy");
    let shuts_all = |it: &Value| {
        it["spec"]["podSelector"] == serde_json::json!({})
            && it["spec"]["ingress"].is_null()
            && it["spec"]["egress"].is_null()
    };
    assert!(policies.iter().any(shuts_all), "all is shut at first");
    for policy in &policies {
        assert_eq!(policy["spec"]["policyTypes"], serde_json::json!(["Ingress", "Egress"]), "{}", name(policy));
        for rule in policy["spec"]["ingress"].as_array().into_iter().flatten() {
            let from = rule["from"].as_array().expect("somebody is named");
            assert!(!from.is_empty() && rule["ports"].is_array(), "{}: {rule}", name(policy));
            let to_mesh = rule["ports"].as_array().unwrap().iter().any(|port| port["port"] == "mesh");
            let own = |it: &Value| {
                it["podSelector"]["matchLabels"]["riverrun.dev/job"].is_string() && it["namespaceSelector"].is_null()
            };
            assert!(!to_mesh || from.iter().all(own), "{}: the mesh is for pods of the job", name(policy));
        }
        for rule in policy["spec"]["egress"].as_array().into_iter().flatten() {
            assert!(rule["to"].as_array().is_some_and(|to| !to.is_empty()), "{}: {rule}", name(policy));
        }
    }
    for service in of_kind("Service") {
        let kind = service["spec"]["type"].as_str().unwrap_or("ClusterIP");
        assert_eq!(kind, "ClusterIP", "{}: nothing is open to the outside", name(&service));
    }
}

#[test]
fn every_object_says_what_it_belongs_to() {
    for object in objects() {
        for label in ["name", "instance", "component", "part-of", "managed-by", "version"] {
            let label = format!("app.kubernetes.io/{label}");
            assert!(object["metadata"]["labels"][&label].is_string(), "{}: {label}", name(&object));
        }
        assert!(
            !["Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"].contains(&object["kind"].as_str().unwrap())
        );
        if object["kind"] == "ServiceAccount" {
            assert_eq!(object["automountServiceAccountToken"], false, "{}", name(&object));
        }
        if object["kind"] == "Namespace" {
            assert_eq!(object["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
        }
    }
}
