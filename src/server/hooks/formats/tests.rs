use std::sync::LazyLock;

use http::HeaderName;
use proptest::prelude::*;
use samovar_registry::Aliases;
use serde_json::{Value, json};

use super::*;
use crate::server::hooks::hint::{Hint, MOST_ELEMENTS, Place};

static HERE: LazyLock<Place> = LazyLock::new(Place::default);

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let parsed =
        pairs.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
    parsed.collect()
}

/// The hints as texts, `-` in front of what is gone; and how many things could not be read.
fn read_at(place: &Place, kind: HookType, pairs: &[(&str, &str)], body: &str) -> (Vec<String>, usize) {
    let headers = headers(pairs);
    let mut told = Told::new(place);
    decode(kind, &Delivery { headers: &headers, body: body.as_bytes() }, &mut told).unwrap();
    let unreadable = told.unreadable();
    (told.into_hints().iter().map(shown).collect(), unreadable)
}

fn read(kind: HookType, pairs: &[(&str, &str)], body: &Value) -> Vec<String> {
    let (hints, unreadable) = read_at(&HERE, kind, pairs, &body.to_string());
    assert_eq!(unreadable, 0, "{body}");
    hints
}

fn shown(hint: &Hint) -> String {
    let tag = hint.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
    format!("{}{}{tag}", if hint.deleted { "-" } else { "" }, hint.name)
}

fn at(registry: &str) -> Place {
    Place { registry: Some(registry.to_owned()), ..Place::default() }
}

const NONE: [&str; 0] = [];

/// As registry 2.8 sends it, in one batch: layers, a manifest by digest and by tag, a pull, a mount, deletions.
#[test]
fn of_distribution_every_event_is_read_and_pushes_of_tags_and_deletions_count() {
    let event = |action: &str, target: Value| {
        json!({
            "id": "320678d8-ca14-430f-8bb6-4ca139cd83f7",
            "timestamp": "2026-11-20T14:44:26.402973972+01:00",
            "action": action,
            "target": target,
            "request": {"id": "6df24a34", "addr": "192.0.2.7:39412", "host": "registry.example:5000",
                "method": "PUT", "useragent": "docker/29"},
            "actor": {"name": "ci"},
            "source": {"addr": "xtal.local:5000", "instanceID": "a53db899"},
        })
    };
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let target = |tag: Option<&str>| {
        let mut target = json!({"mediaType": manifest, "digest": "sha256:fea8", "size": 708, "length": 708,
            "repository": "team/app", "url": "http://10.0.0.1:5000/v2/team/app/manifests/sha256:fea8"});
        if let Some(tag) = tag {
            target["tag"] = tag.into();
        }
        target
    };
    let body = json!({"events": [
        event("push", json!({"mediaType": "application/octet-stream", "digest": "sha256:aaaa", "repository": "team/app"})),
        event("push", target(None)),
        event("push", target(Some("v1"))),
        event("push", target(Some("v2"))),
        event("push", target(Some("v1"))),
        event("pull", target(Some("v3"))),
        event("mount", json!({"digest": "sha256:aaaa", "repository": "team/other", "fromRepository": "team/app"})),
        event("delete", json!({"digest": "sha256:bbbb", "repository": "team/old"})),
        event("delete", json!({"repository": "team/app", "tag": "v0"})),
    ]});
    let expected = [
        "-registry.example:5000/team/app:v0",
        "registry.example:5000/team/app:v1",
        "registry.example:5000/team/app:v2",
        "-registry.example:5000/team/old",
    ];
    for kind in [HookType::Distribution, HookType::Gitlab] {
        assert_eq!(read(kind, &[], &body), expected);
    }
    // A host without a dot is no organisation of Docker Hub; nor is it a registry's whole name.
    let mut one = json!({"events": [event("push", target(Some("v1")))]});
    one["events"][0]["request"]["host"] = "registry".into();
    assert_eq!(read_at(&HERE, HookType::Distribution, &[], &one.to_string()), (vec![], 1));
    let aliases = Aliases::parse(["registry=registry.example:5000"]).unwrap();
    let place = Place { aliases, ..Place::default() };
    let expected = vec!["registry.example:5000/team/app:v1".to_owned()];
    assert_eq!(read_at(&place, HookType::Distribution, &[], &one.to_string()), (expected, 0));
    let expected = vec!["other.example/team/app:v1".to_owned()];
    assert_eq!(read_at(&at("other.example"), HookType::Distribution, &[], &one.to_string()), (expected, 0));
    one["events"][0]["request"] = Value::Null;
    assert_eq!(read(HookType::Distribution, &[], &one), ["10.0.0.1:5000/team/app:v1"]);
}

#[test]
fn of_docker_hub_the_repository_and_its_tag_are_read_and_the_callback_is_not() {
    let body = json!({
        "callback_url": "https://registry.hub.docker.com/u/svendowideit/testhook/hook/2141b5bi5i5b02bec211i4eeih0242eg11000a/",
        "push_data": {"pushed_at": 1_417_566_161, "pusher": "trustedbuilder", "tag": "latest"},
        "repository": {"name": "testhook", "namespace": "svendowideit", "repo_name": "svendowideit/testhook",
            "repo_url": "https://registry.hub.docker.com/u/svendowideit/testhook/", "star_count": 0, "status": "Active"},
    });
    assert_eq!(read(HookType::DockerHub, &[], &body), ["docker.io/svendowideit/testhook:latest"]);
    // An organisation that is called as an alias of ours is none.
    let place = Place { aliases: Aliases::parse(["svendowideit=a.example"]).unwrap(), ..Place::default() };
    let (hints, _) = read_at(&place, HookType::DockerHub, &[], &body.to_string());
    assert_eq!(hints, ["docker.io/svendowideit/testhook:latest"]);
    let official = json!({"push_data": {"tag": "3.22"}, "repository": {"repo_name": "alpine"}});
    assert_eq!(read(HookType::DockerHub, &[], &official), ["docker.io/library/alpine:3.22"]);
    assert_eq!(read(HookType::DockerHub, &[], &json!({"push_data": {}})), NONE);
}

#[test]
fn of_github_containers_with_tags_are_read_in_lower_case() {
    let package = |version: Value| {
        json!({"name": "App", "namespace": "Octo-Org", "package_type": "CONTAINER", "ecosystem": "CONTAINER",
            "owner": {"login": "octo-org"}, "registry": {"url": "https://ghcr.io/octo-org"}, "package_version": version})
    };
    let tagged = json!({"version": "sha256:aa", "name": "sha256:aa", "package_url": "ghcr.io/octo-org/app:v1.2",
        "container_metadata": {"tag": {"name": "v1.2", "digest": "sha256:aa"}}});
    let event = |name| [("x-github-event", name), ("x-github-delivery", "72d3162e")];
    let published = json!({"action": "published", "package": package(tagged.clone())});
    assert_eq!(read(HookType::Ghcr, &event("package"), &published), ["ghcr.io/octo-org/app:v1.2"]);
    let by_url = json!({"version": "sha256:aa", "package_url": "ghcr.io/octo-org/app:v1.3"});
    let registry_package = json!({"action": "updated", "registry_package": {"name": "app", "namespace": "",
        "ecosystem": "container", "owner": {"login": "octo-org"}, "package_version": by_url}});
    assert_eq!(
        read(HookType::Ghcr, &event("registry_package"), &registry_package),
        ["ghcr.io/octo-org/app:v1.3"]
    );

    let untagged = json!({"package_url": "ghcr.io/octo-org/app:", "container_metadata": {"tag": {"name": "", "digest": ""}}});
    let mut npm = package(tagged.clone());
    npm["package_type"] = "npm".into();
    for ignored in [
        json!({"action": "published", "package": package(untagged)}),
        json!({"action": "published", "package": npm}),
        json!({"action": "deleted", "package": package(tagged)}),
    ] {
        assert_eq!(read(HookType::Ghcr, &event("package"), &ignored), NONE);
    }
    // What is no package need not even be looked at.
    assert_eq!(read(HookType::Ghcr, &event("ping"), &json!({"zen": "Keep it simple"})), NONE);
    assert_eq!(read_at(&HERE, HookType::Ghcr, &[], "no JSON"), (vec![], 0));
}

#[test]
fn of_harbor_every_resource_is_read_in_both_formats() {
    let data = json!({
        "resources": [
            {"digest": "sha256:954b", "tag": "v1", "resource_url": "hub.harbor.example/test-webhook/debian:v1"},
            {"digest": "sha256:954b", "tag": "latest", "resource_url": "hub.harbor.example/test-webhook/debian:latest"},
            {"digest": "sha256:954b", "tag": "sha256:954b", "resource_url": "hub.harbor.example/test-webhook/debian@sha256:954b"},
        ],
        "repository": {"date_created": 1_586_922_308, "name": "debian", "namespace": "test-webhook",
            "repo_full_name": "test-webhook/debian", "repo_type": "private"},
    });
    let own = |kind: &str| json!({"type": kind, "occur_at": 1_586_922_308, "operator": "admin", "event_data": data});
    let event = |kind: &str| {
        json!({"specversion": "1.0", "id": "4b2f89a6", "requestid": "77b3e1ca", "source": "/projects/2/webhook/policies/15",
            "type": kind, "datacontenttype": "application/json", "time": "2023-04-03T06:53:56Z", "operator": "admin", "data": data})
    };
    let cloud_event = [("content-type", "application/cloudevents+json")];
    let pushed =
        ["hub.harbor.example/test-webhook/debian:latest", "hub.harbor.example/test-webhook/debian:v1"];
    for kind in ["PUSH_ARTIFACT", "pushImage"] {
        assert_eq!(read(HookType::Harbor, &[], &own(kind)), pushed);
    }
    assert_eq!(read(HookType::Harbor, &cloud_event, &event("harbor.artifact.pushed")), pushed);
    assert_eq!(read(HookType::Harbor, &[], &event("harbor.artifact.pushed")), pushed);
    let deleted = [
        "-hub.harbor.example/test-webhook/debian",
        "-hub.harbor.example/test-webhook/debian:latest",
        "-hub.harbor.example/test-webhook/debian:v1",
    ];
    assert_eq!(read(HookType::Harbor, &[], &own("DELETE_ARTIFACT")), deleted);
    assert_eq!(read(HookType::Harbor, &cloud_event, &event("harbor.artifact.deleted")), deleted);
    for kind in
        ["PULL_ARTIFACT", "SCANNING_COMPLETED", "QUOTA_EXCEED", "REPLICATION", "TAG_RETENTION", "anything"]
    {
        assert_eq!(read(HookType::Harbor, &[], &own(kind)), NONE);
    }
    assert_eq!(read(HookType::Harbor, &cloud_event, &event("harbor.artifact.pulled")), NONE);
    let (elsewhere, _) =
        read_at(&at("mirror.example"), HookType::Harbor, &[], &own("PUSH_ARTIFACT").to_string());
    assert_eq!(
        elsewhere,
        ["mirror.example/test-webhook/debian:latest", "mirror.example/test-webhook/debian:v1"]
    );
}

#[test]
fn of_quay_every_tag_is_read() {
    let body = json!({"name": "app", "repository": "team/app", "namespace": "team", "docker_url": "quay.io/team/app",
        "homepage": "https://quay.io/repository/team/app", "updated_tags": ["latest", "v2"]});
    let expected = ["quay.io/team/app:latest", "quay.io/team/app:v2"];
    assert_eq!(read(HookType::Quay, &[], &body), expected);
    let older =
        json!({"docker_url": "quay.io/team/app", "updated_tags": {"latest": "sha256:aa", "v2": "sha256:bb"}});
    assert_eq!(read(HookType::Quay, &[], &older), expected);
    let other_event = json!({"docker_url": "quay.io/team/app", "vulnerability": {"id": "CVE-2026-1"}, "updated_tags": null});
    assert_eq!(read(HookType::Quay, &[], &other_event), NONE);
}

#[test]
fn of_azure_events_come_directly_and_by_event_grid() {
    let event = |action: &str, tag: Option<&str>| {
        let mut event = json!({"id": "cb8c3971", "timestamp": "2026-11-20T20:00:44.9Z", "action": action,
            "target": {"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "size": 524,
                "digest": "sha256:xxxx", "length": 524, "repository": "hello-world"},
            "request": {"id": "3cbb", "host": "myregistry.azurecr.io", "method": "PUT", "useragent": "docker/29"}});
        if let Some(tag) = tag {
            event["target"]["tag"] = tag.into();
        }
        event
    };
    assert_eq!(
        read(HookType::Acr, &[], &event("push", Some("v1"))),
        ["myregistry.azurecr.io/hello-world:v1"]
    );
    assert_eq!(read(HookType::Acr, &[], &event("push", None)), NONE);
    assert_eq!(read(HookType::Acr, &[], &event("delete", None)), ["-myregistry.azurecr.io/hello-world"]);
    assert_eq!(read(HookType::Acr, &[], &event("chart_push", Some("v1"))), NONE);
    assert_eq!(read(HookType::Acr, &[], &json!({"id": "a", "action": "ping"})), NONE);

    let grid = |tag| {
        json!({"id": "831e", "topic": "/subscriptions/s", "subject": "hello-world:v1",
        "eventType": "Microsoft.ContainerRegistry.ImagePushed", "data": event("push", Some(tag)), "dataVersion": "1.0"})
    };
    let expected = ["myregistry.azurecr.io/hello-world:v1", "myregistry.azurecr.io/hello-world:v2"];
    assert_eq!(read(HookType::Acr, &[], &json!([grid("v1"), grid("v2")])), expected);
    let cloud_event = json!({"specversion": "1.0", "type": "Microsoft.ContainerRegistry.ImagePushed",
        "source": "/subscriptions/s", "id": "831e", "data": event("push", Some("v1"))});
    assert_eq!(read(HookType::Acr, &[], &cloud_event), expected[..1]);

    let validation = json!([{"id": "2d17", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "data": {"validationCode": "512d38b6", "validationUrl": "https://rp-eastus2.eventgrid.azure.net"}}]);
    let mut told = Told::new(&HERE);
    let (headers, body) = (HeaderMap::new(), validation.to_string());
    decode(HookType::Acr, &Delivery { headers: &headers, body: body.as_bytes() }, &mut told).unwrap();
    assert_eq!(told.reply(), Some(&json!({"validationResponse": "512d38b6"})));
    assert_eq!(told.into_hints(), []);
}

#[test]
fn of_google_messages_are_unwrapped() {
    use base64::Engine as _;
    let wrapped = |event: &Value| {
        let data = base64::engine::general_purpose::STANDARD.encode(event.to_string());
        json!({"message": {"data": data, "messageId": "2070443601311540", "publishTime": "2026-11-20T19:13:55.749Z"},
            "subscription": "projects/p/subscriptions/s"})
    };
    let image = "us-east1-docker.pkg.dev/project/repo/app";
    let digest = format!("{image}@sha256:{}", "a".repeat(64));
    for (event, expected) in [
        (
            json!({"action": "INSERT", "digest": digest, "tag": format!("{image}:v1")}),
            vec![format!("{image}:v1")],
        ),
        (json!({"action": "INSERT", "digest": digest}), vec![]),
        (json!({"action": "DELETE", "tag": format!("{image}:v1")}), vec![format!("-{image}:v1")]),
        (json!({"action": "DELETE", "digest": digest}), vec![format!("-{image}")]),
        (json!({"action": "SCAN"}), vec![]),
    ] {
        assert_eq!(read(HookType::Google, &[], &wrapped(&event)), expected);
        assert_eq!(read(HookType::Google, &[], &event), expected, "not wrapped");
    }
}

#[test]
fn of_amazon_events_come_from_event_bridge_from_sns_and_as_cloud_events() {
    let event = |region: &str, action: &str, tag: &str| {
        json!({"version": "0", "id": "13cde686", "detail-type": "ECR Image Action", "source": "aws.ecr",
            "account": "123456789012", "time": "2026-11-20T21:36:40Z", "region": region, "resources": [],
            "detail": {"result": "SUCCESS", "repository-name": "team/app", "image-digest": "sha256:7f5b",
                "action-type": action, "image-tag": tag}})
    };
    let host = "123456789012.dkr.ecr.us-west-2.amazonaws.com";
    let pushed = event("us-west-2", "PUSH", "v1");
    assert_eq!(read(HookType::Ecr, &[], &pushed), [format!("{host}/team/app:v1")]);
    assert_eq!(read(HookType::Ecr, &[], &event("us-west-2", "PUSH", "")), NONE);
    assert_eq!(
        read(HookType::Ecr, &[], &event("us-west-2", "DELETE", "v1")),
        [format!("-{host}/team/app:v1")]
    );
    assert_eq!(
        read(HookType::Ecr, &[], &event("cn-north-1", "PUSH", "v1")),
        ["123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/team/app:v1"]
    );
    let mut failed = pushed.clone();
    failed["detail"]["result"] = "FAILURE".into();
    let scan =
        json!({"source": "aws.ecr", "detail-type": "ECR Image Scan", "detail": {"scan-status": "COMPLETE"}});
    for ignored in [failed, scan, json!({"source": "aws.s3", "detail": {}})] {
        assert_eq!(read(HookType::Ecr, &[], &ignored), NONE);
    }
    let notification = json!({"Type": "Notification", "MessageId": "22b8", "TopicArn": "arn:aws:sns:us-west-2:1:t",
        "Message": pushed.to_string(), "SignatureVersion": "1", "Signature": "EXAMPLE", "SigningCertURL": "https://sns.example/c.pem"});
    assert_eq!(read(HookType::Ecr, &[], &notification), [format!("{host}/team/app:v1")]);
    let confirmation = json!({"Type": "SubscriptionConfirmation", "Token": "2336", "Message": "You have chosen to subscribe",
        "SubscribeURL": "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&Token=2336"});
    assert_eq!(read(HookType::Ecr, &[], &confirmation), NONE);

    let cloud_event = json!({"specversion": "1.0", "id": "i", "type": "com.amazon.ecr.image.push",
        "source": "urn:aws:ecr:us-west-2:123456789012:repository/team/app", "subject": "team/app:v1",
        "data": {"repositoryName": "team/app", "imageDigest": "sha256:aa", "imageTag": "v1", "registryId": "123456789012"}});
    let mut bare = cloud_event.clone();
    bare["data"] = Value::Null;
    for kind in [HookType::Ecr, HookType::CloudEvents] {
        assert_eq!(read(kind, &[], &cloud_event), [format!("{host}/team/app:v1")]);
        assert_eq!(read(kind, &[], &bare), [format!("{host}/team/app:v1")], "by source and subject alone");
    }
}

#[test]
fn of_gitea_versions_of_containers_are_read() {
    let package = |action: &str, kind: &str, version: &str| {
        json!({"action": action, "package": {"id": 1, "owner": {"login": "Team", "username": "Team"}, "type": kind,
            "name": "app", "version": version, "html_url": "https://gitea.example:3000/Team/-/packages/container/app/v1"},
            "sender": {"login": "alice"}})
    };
    for header in ["x-gitea-event", "x-forgejo-event"] {
        let event = [(header, "package")];
        let of = |body: &Value| read(HookType::Gitea, &event, body);
        assert_eq!(of(&package("created", "container", "v1")), ["gitea.example:3000/team/app:v1"]);
        assert_eq!(of(&package("deleted", "container", "v1")), ["-gitea.example:3000/team/app:v1"]);
        assert_eq!(of(&package("created", "container", "sha256:aa")), NONE);
        assert_eq!(of(&package("created", "npm", "1.0.0")), NONE);
    }
    assert_eq!(read(HookType::Gitea, &[("x-gitea-event", "push")], &json!({"ref": "refs/heads/main"})), NONE);
}

#[test]
fn of_artifactory_images_are_named_by_the_key_of_their_repository_or_as_configured() {
    let event = |kind: &str| {
        json!({"domain": "docker", "event_type": kind, "data": {"repo_key": "docker-local", "path": "team/app/v1/manifest.json",
            "name": "manifest.json", "sha256": "aa", "size": 1, "image_name": "team/app", "tag": "v1",
            "platforms": [{"architecture": "amd64", "os": "linux"}]},
            "subscription_key": "s", "jpd_origin": "https://corp.jfrog.io/", "source": "jfrog/alice"})
    };
    assert_eq!(read(HookType::Jfrog, &[], &event("pushed")), ["corp.jfrog.io/docker-local/team/app:v1"]);
    assert_eq!(read(HookType::Jfrog, &[], &event("promoted")), ["corp.jfrog.io/docker-local/team/app:v1"]);
    assert_eq!(read(HookType::Jfrog, &[], &event("deleted")), ["-corp.jfrog.io/docker-local/team/app:v1"]);
    assert_eq!(read(HookType::Jfrog, &[], &event("tagged")), NONE);
    let place = |prefix: &str| Place { prefix: Some(prefix.to_owned()), ..at("docker.corp.example") };
    let of = |place: &Place| read_at(place, HookType::Jfrog, &[], &event("pushed").to_string()).0;
    assert_eq!(of(&place("")), ["docker.corp.example/team/app:v1"]);
    assert_eq!(of(&place("docker")), ["docker.corp.example/docker/team/app:v1"]);
}

#[test]
fn of_nexus_components_that_are_images_are_read_at_the_configured_registry() {
    let event = |action: &str, format: &str| {
        json!({"timestamp": "2026-11-20T16:48:44.5Z", "nodeId": "52905B51", "initiator": "admin/127.0.0.1",
            "repositoryName": "docker-hosted", "action": action,
            "component": {"id": "08909bf0", "componentId": "ZG9", "format": format, "name": "team/app", "group": null, "version": "v1"}})
    };
    let header = [("x-nexus-webhook-id", "rm:repository:component")];
    let of = |place: &Place, body: Value| read_at(place, HookType::Nexus, &header, &body.to_string());
    let port = at("nexus.example:8082");
    assert_eq!(of(&port, event("CREATED", "docker")).0, ["nexus.example:8082/team/app:v1"]);
    assert_eq!(of(&port, event("UPDATED", "docker")).0, ["nexus.example:8082/team/app:v1"]);
    assert_eq!(of(&port, event("DELETED", "docker")).0, ["-nexus.example:8082/team/app:v1"]);
    assert_eq!(of(&port, event("CREATED", "npm")).0, NONE);
    let path = Place { prefix: Some("docker-hosted".to_owned()), ..at("nexus.example") };
    assert_eq!(of(&path, event("CREATED", "docker")).0, ["nexus.example/docker-hosted/team/app:v1"]);
    let asset = [("x-nexus-webhook-id", "rm:repository:asset")];
    assert_eq!(read_at(&port, HookType::Nexus, &asset, "no JSON"), (vec![], 0));
}

#[test]
fn of_zot_events_are_binary_or_structured() {
    let data = |reference: &str| {
        json!({"name": "team/app", "reference": reference, "digest": "sha256:aa",
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "manifest": "{}"})
    };
    let place = at("zot.example:5000");
    let binary = |kind: &str, reference: &str| {
        let headers =
            [("ce-specversion", "1.0"), ("ce-type", kind), ("ce-source", "zotregistry.dev"), ("ce-id", "1")];
        read_at(&place, HookType::Zot, &headers, &data(reference).to_string()).0
    };
    assert_eq!(binary("zotregistry.image.updated", "v1"), ["zot.example:5000/team/app:v1"]);
    assert_eq!(binary("zotregistry.image.deleted", "v1"), ["-zot.example:5000/team/app:v1"]);
    assert_eq!(binary("zotregistry.image.deleted", "sha256:aa"), ["-zot.example:5000/team/app"]);
    assert_eq!(binary("zotregistry.image.updated", "sha256:aa"), NONE);
    assert_eq!(binary("zotregistry.image.lint_failed", "v1"), NONE);
    assert_eq!(binary("zotregistry.repository.created", ""), NONE);
    let structured = json!({"specversion": "1.0", "id": "1", "source": "zotregistry.dev",
        "type": "zotregistry.image.updated", "data": data("v1")});
    assert_eq!(
        read_at(&place, HookType::Zot, &[], &structured.to_string()).0,
        ["zot.example:5000/team/app:v1"]
    );
}

#[test]
fn cloud_events_name_images_in_several_ways() {
    let event = |kind: &str, data: Value| json!({"specversion": "1.0", "id": "1", "source": "https://ci.example", "type": kind, "data": data});
    let of = |kind: &str, data: Value| read(HookType::CloudEvents, &[], &event(kind, data));
    let push = "com.example.image.push";
    let named =
        json!({"repository": "team/app", "tag": "v1", "digest": "sha256:aa", "registry": "a.example"});
    assert_eq!(of(push, named), ["a.example/team/app:v1"]);
    let urls =
        json!({"repositoryName": "team/app", "imageTag": "v1", "registryUrl": "https://a.example:5000/"});
    assert_eq!(of(push, urls), ["a.example:5000/team/app:v1"]);
    assert_eq!(of(push, json!({"repository": "alpine", "tag": "3"})), ["docker.io/library/alpine:3"]);
    assert_eq!(
        of("io.samovar.tag.moved", json!({"name": "a.example/team/app", "tag": "v1"})),
        ["a.example/team/app:v1"]
    );
    assert_eq!(
        of("io.samovar.tag.removed", json!({"name": "a.example/team/app", "tag": "v1"})),
        ["-a.example/team/app:v1"]
    );
    assert_eq!(of(push, json!({"image": "a.example/team/app:v1"})), ["a.example/team/app:v1"]);
    assert_eq!(of(push, json!({"something": "else"})), NONE);
    assert_eq!(of(push, Value::Null), NONE);

    let artifact = |id: &str| json!({"context": {"version": "0.4.1"}, "subject": {"id": id, "type": "artifact", "content": {}}});
    let published = "dev.cdevents.artifact.published.0.2.0";
    let id = "pkg:oci/app@sha256%3Aaa?repository_url=a.example%3A5000%2Fteam%2Fapp&tag=v1";
    assert_eq!(of(published, artifact(id)), ["a.example:5000/team/app:v1"]);
    assert_eq!(of("dev.cdevents.artifact.deleted.0.1.0", artifact(id)), ["-a.example:5000/team/app:v1"]);
    assert_eq!(of(published, artifact("pkg:docker/team/app@v1")), ["docker.io/team/app:v1"]);
    assert_eq!(
        of(published, artifact("pkg:docker/team/app@v1?repository_url=a.example")),
        ["a.example/team/app:v1"]
    );
    assert_eq!(of(published, artifact("pkg:oci/app@sha256:aa?repository_url=a.example/team/app")), NONE);

    let batch = json!([
        event(push, json!({"image": "a.example/one:v1"})),
        event(push, json!({"image": "a.example/two:v1"}))
    ]);
    let header = [("content-type", "application/cloudevents-batch+json")];
    assert_eq!(read(HookType::CloudEvents, &header, &batch), ["a.example/one:v1", "a.example/two:v1"]);
    let mut encoded = event(push, Value::Null);
    encoded["data_base64"] = "eyJpbWFnZSI6ImEuZXhhbXBsZS9vbmU6djEifQ==".into();
    assert_eq!(read(HookType::CloudEvents, &[], &encoded), ["a.example/one:v1"]);
}

#[test]
fn the_plain_form_names_one_image_or_several_or_is_a_cloud_event() {
    let of = |body: Value| read(HookType::Hmac, &[], &body);
    assert_eq!(of(json!({"image": "alpine:3.22"})), ["docker.io/library/alpine:3.22"]);
    assert_eq!(of(json!({"image": "a.example/app"})), ["a.example/app"]);
    assert_eq!(
        of(json!({"images": ["a.example/app:1", "a.example/app:2"], "deleted": true})),
        ["-a.example/app:1", "-a.example/app:2"]
    );
    let event = json!({"specversion": "1.0", "id": "1", "source": "s", "type": "io.samovar.tag.added", "data": {"name": "a.example/app", "tag": "1"}});
    assert_eq!(of(event), ["a.example/app:1"]);
    assert_eq!(
        read_at(&HERE, HookType::Hmac, &[], r#"{"images": ["UPPER", "a.example/app"]}"#),
        (vec!["a.example/app".to_owned()], 1)
    );
}

#[test]
fn what_fluxd_was_told_names_a_repository() {
    let change = |domain: &str, image: &str| json!({"Kind": "image", "Source": {"Name": {"Domain": domain, "Image": image}}});
    assert_eq!(read(HookType::Flux, &[], &change("quay.io", "org/app")), ["quay.io/org/app"]);
    assert_eq!(read(HookType::Flux, &[], &change("", "alpine")), ["docker.io/library/alpine"]);
    let git = json!({"Kind": "git", "Source": {"URL": "git@example.com:team/repo", "Branch": "main"}});
    assert_eq!(read(HookType::Flux, &[], &git), NONE);
}

#[test]
fn what_is_no_document_of_the_sender_is_malformed_and_shown_shortly() {
    let kinds = HookType::ALL;
    let event = [
        ("x-github-event", "package"),
        ("x-gitea-event", "package"),
        ("x-nexus-webhook-id", "rm:repository:component"),
    ];
    let headers = headers(&event);
    let long = format!("{{\"x\": {}", "[".repeat(100_000));
    for kind in kinds {
        for body in ["", "{", "null", "[null]", "7", "\"text\"", "\u{0}", long.as_str()] {
            let mut told = Told::new(&HERE);
            let error = decode(kind, &Delivery { headers: &headers, body: body.as_bytes() }, &mut told);
            let error = error.expect_err(&format!("{kind}: {body:.20}"));
            assert!(error.to_string().len() <= 200, "{error}");
        }
    }
}

#[test]
fn lists_are_bounded() {
    let count = |count: usize| json!({"images": vec!["a.example/app"; count]}).to_string();
    let mut told = Told::new(&HERE);
    let headers = HeaderMap::new();
    let mut decode = |body: String| {
        decode(HookType::Hmac, &Delivery { headers: &headers, body: body.as_bytes() }, &mut told)
    };
    assert!(decode(count(MOST_ELEMENTS)).is_ok());
    let error = decode(count(MOST_ELEMENTS + 1)).unwrap_err();
    assert!(error.to_string().starts_with("a list has more than 1000 elements"), "{error}");
}

/// JSON that looks as if a registry had sent it.
fn plausible() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("push"),
        Just("delete"),
        Just("team/app"),
        Just("v1"),
        Just("a.example"),
        Just("a.example/app:v1"),
        Just(""),
        Just("PUSH_ARTIFACT"),
        Just("docker"),
        Just("pushed"),
        Just("image"),
        Just("1.0"),
        Just("INSERT"),
        Just("é/:@?%zz"),
        Just("pkg:oci/a@b?repository_url=%41%é&tag"),
        Just("dev.cdevents.artifact.published"),
        Just("com.amazon.ecr.push"),
        Just("urn:aws:ecr:r:a:repository/x"),
        Just("eyJ9"),
        Just("https://a.example/x?y#z"),
    ];
    let leaf = prop_oneof![
        word.prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("events"),
        Just("action"),
        Just("target"),
        Just("repository"),
        Just("tag"),
        Just("url"),
        Just("request"),
        Just("host"),
        Just("push_data"),
        Just("repo_name"),
        Just("package"),
        Just("type"),
        Just("event_data"),
        Just("resources"),
        Just("resource_url"),
        Just("docker_url"),
        Just("updated_tags"),
        Just("data"),
        Just("message"),
        Just("detail"),
        Just("source"),
        Just("subject"),
        Just("id"),
        Just("name"),
        Just("image"),
        Just("images"),
        Just("specversion"),
        Just("Kind"),
        Just("Source"),
        Just("Name"),
        Just("Image"),
        Just("component"),
        Just("event_type"),
        Just("domain"),
        Just("image_name"),
        Just("jpd_origin"),
        Just("eventType"),
        Just("data_base64"),
        Just("Type"),
        Just("Message"),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..8).prop_map(|map| Value::Object(
                map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            )),
        ]
    })
}

proptest! {
    /// Whatever comes is hints, of which there are not many, or is refused in few words.
    #[test]
    fn anything_is_read_or_refused(
        kind in prop::sample::select(&HookType::ALL[..]),
        body in prop_oneof![plausible().prop_map(|value| value.to_string().into_bytes()), prop::collection::vec(any::<u8>(), 0..200)],
        event in prop_oneof![Just("package"), Just("ping"), Just("zotregistry.image.updated")],
        as_cloud_event in any::<bool>(),
    ) {
        let mut headers = headers(&[("x-github-event", event), ("x-gitea-event", event), ("x-nexus-webhook-id", "rm:repository:component")]);
        if as_cloud_event {
            headers.insert("ce-type", event.parse().unwrap());
        }
        let place = Place { registry: (body.len() % 2 == 0).then(|| "b.example".to_owned()), ..Place::default() };
        let mut told = Told::new(&place);
        match decode(kind, &Delivery { headers: &headers, body: &body }, &mut told) {
            Ok(()) => prop_assert!(told.into_hints().len() <= MOST_ELEMENTS),
            Err(error) => prop_assert!(error.to_string().chars().count() <= 200),
        }
    }
}
