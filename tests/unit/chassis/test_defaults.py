"""What an API server added, kept beside what was sent."""

from __future__ import annotations

from typing import Any

from services.chassis.kube.defaults import added, completed

SENT: dict[str, Any] = {
    "kind": "Deployment",
    "spec": {
        "template": {
            "spec": {"containers": [{"name": "web", "env": [{"name": "A", "value": "s"}]}]}
        }
    },
}


def answer(**more: Any) -> dict[str, Any]:
    container = {
        "name": "web",
        "env": [{"name": "A", "value": "s"}],
        "imagePullPolicy": "Always",
        **more,
    }
    spec = {"replicas": 1, "template": {"spec": {"containers": [container]}}}
    return {**SENT, "metadata": {"uid": "u"}, "status": {"replicas": 0}, "spec": spec}


def test_what_was_sent_and_what_was_added_make_the_answer() -> None:
    tree = added("apps/Deployment", SENT, answer())
    assert completed(SENT, tree) == {"kind": "Deployment", "spec": answer()["spec"]}
    assert completed(SENT, {}) == SENT
    assert added("apps/Deployment", SENT, SENT) == {}


def test_what_must_not_be_read_is_not_kept() -> None:
    """A webhook adds variables and arguments, too."""
    secret = answer(args=["--password=hunter2"], lifecycle={"env": [{"value": "hunter2"}]})
    assert "hunter2" not in str(added("apps/Deployment", SENT, secret))
    told = added("/ConfigMap", {"data": {"a": "1"}}, {"data": {"a": "1", "b": "hunter2"}})
    assert told == {}


def test_items_that_admission_adds_are_kept_and_the_others_found_among_them() -> None:
    longer = answer()
    containers = longer["spec"]["template"]["spec"]["containers"]
    containers.insert(0, {"name": "istio-proxy", "image": "proxy:1"})
    tree = added("apps/Deployment", SENT, longer)
    whole = completed(SENT, tree)["spec"]["template"]["spec"]["containers"]
    assert whole == [containers[1], containers[0]]

    containers[0]["args"] = ["--password=hunter2"]
    tree = added("apps/Deployment", SENT, longer)
    whole = completed(SENT, tree)["spec"]["template"]["spec"]["containers"]
    assert whole == [containers[1]]


def test_a_value_that_is_kept_in_another_form_is_what_the_server_made_of_it() -> None:
    sent = {"spec": {"metrics": [{"target": {"averageValue": "1000m", "note": None}}]}}
    found = {"spec": {"metrics": [{"target": {"averageValue": "1"}}]}}
    tree = added("autoscaling/HorizontalPodAutoscaler", sent, found)
    assert completed(sent, tree)["spec"]["metrics"][0]["target"]["averageValue"] == "1"


def test_definitions_are_left_out() -> None:
    crd = "apiextensions.k8s.io/CustomResourceDefinition"
    assert added(crd, {"spec": {}}, {"spec": {"conversion": {"strategy": "None"}}}) == {}
