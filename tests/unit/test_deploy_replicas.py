"""The manifest of two replicas: they share a ledger, nodes are theirs one each, and one is always there."""

from __future__ import annotations

from tests.unit.test_deploy import MANIFESTS, manifest

FILE = "serve-postgresql.yaml"


def test_replicas_differ_from_one_only_by_what_they_share() -> None:
    """The same pod as the single one's, but for the volume, the password of the ledger and where it is put."""
    single = manifest("serve.yaml", "Deployment")["spec"]["template"]["spec"]
    pod = manifest(FILE, "Deployment")["spec"]["template"]["spec"]
    assert {name for name in pod if pod[name] != single.get(name)} == {
        "containers", "securityContext", "topologySpreadConstraints", "volumes",
    }  # fmt: skip
    (ours,), (theirs,) = pod["containers"], single["containers"]
    assert {name for name in ours if ours[name] != theirs[name]} == {"volumeMounts"}
    assert [mount["name"] for mount in ours["volumeMounts"]] == ["etc", "tmp"]
    assert {volume["name"] for volume in pod["volumes"]} == {"etc", "tmp"}
    assert "PersistentVolumeClaim" not in {one["kind"] for one in MANIFESTS[FILE]}
    secrets = [
        {item["path"] for source in volume["projected"]["sources"] if "secret" in source
         for item in source["secret"]["items"]}
        for each in (pod, single) for volume in each["volumes"] if volume["name"] == "etc"
    ]  # fmt: skip
    assert secrets[0] - secrets[1] == {"secrets/ledger-password"}
    assert secrets[1] < secrets[0]


def test_one_of_two_is_always_there() -> None:
    """Neither a new version nor a drained node takes both at once; each has the time to let go."""
    deployment = manifest(FILE, "Deployment")["spec"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"] == {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    budget = manifest(FILE, "PodDisruptionBudget")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert budget == {"minAvailable": 1, "selector": {"matchLabels": labels}}
    assert manifest(FILE, "Service")["spec"]["selector"] == labels
    (spread,) = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == labels
