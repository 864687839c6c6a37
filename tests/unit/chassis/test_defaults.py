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


def test_lists_of_another_length_and_definitions_are_left_out() -> None:
    longer = answer()
    longer["spec"]["template"]["spec"]["containers"].append({"name": "istio-proxy"})
    assert added("apps/Deployment", SENT, longer) == {"spec": {"replicas": {"=": 1}}}
    crd = "apiextensions.k8s.io/CustomResourceDefinition"
    assert added(crd, {"spec": {}}, {"spec": {"conversion": {"strategy": "None"}}}) == {}
