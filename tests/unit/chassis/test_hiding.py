"""Values that nobody has to read are known by their hash, put back whole, and not to be seen."""

from __future__ import annotations

import os
from typing import Any

import orjson
import pytest

from deploy.local.households import Household
from services.chassis import hiding
from services.chassis.bus.intents import AppliedObject, as_found, comparable, concealed, whole
from services.chassis.errors import InvalidMessage

CANARY = "canary-0123456789"

DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "a", "annotations": {"x/last": CANARY, "empty": ""}},
    "spec": {
        "replicas": 2,
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "app",
                        "image": "an-image",
                        "args": ["--password", CANARY],
                        "env": [{"name": "PASSWORD", "value": CANARY}],
                    }
                ]
            }
        },
    },
}
FOREIGN = {
    "apiVersion": "databases.example.com/v1",
    "kind": "Database",
    "metadata": {"name": "a", "labels": {"app": "a"}},
    "spec": {"users": [{"name": "root", "password": CANARY, "port": 1}]},
}
CONFIG_MAP = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "a", "annotations": {"kubectl/last-applied": CANARY}},
    "data": {"key": CANARY},
}
PLUGIN = {
    "apiVersion": "extensions.istio.io/v1alpha1",
    "kind": "WasmPlugin",
    "metadata": {"name": "a"},
    "spec": {
        "url": "oci://a",
        "pluginConfig": {"token": CANARY},
        "vmConfig": {"env": [{"name": "TOKEN", "value": CANARY}]},
    },
}
OBJECTS = pytest.mark.parametrize("obj", [DEPLOYMENT, FOREIGN, CONFIG_MAP, PLUGIN])


def kind_of(obj: dict[str, Any]) -> str:
    return f"{str(obj['apiVersion']).rpartition('/')[0]}/{obj['kind']}"


def intent(obj: dict[str, Any]) -> AppliedObject:
    return AppliedObject(
        kind=kind_of(obj), namespace="n", name="a", object=obj, digest="d" * 32, operation="op"
    )


@OBJECTS
def test_no_value_is_left(obj: dict[str, Any]) -> None:
    kept = concealed(intent(obj), keys=Household().keys("lifecycle"))

    text = kept.model_dump_json()
    assert CANARY not in text
    assert "d" * 32 not in text, "a hash without a key can be guessed"
    assert kept.object["metadata"]["name"] == "a"


def test_what_is_shown_stays() -> None:
    kept = concealed(intent(DEPLOYMENT), keys=Household().keys("lifecycle")).object

    [container] = kept["spec"]["template"]["spec"]["containers"]
    assert (kept["spec"]["replicas"], container["image"]) == (2, "an-image")
    assert container["env"][0]["name"] == "PASSWORD"
    assert kept["metadata"]["annotations"]["empty"] == ""


@OBJECTS
def test_lifecycle_has_it_whole_and_topology_has_not(obj: dict[str, Any]) -> None:
    household = Household()
    kept = concealed(intent(obj), keys=household.keys("lifecycle"))

    opened = whole(kept, keys=household.keys("lifecycle"))
    assert (opened.object, opened.digest) == (obj, "d" * 32)
    with pytest.raises(InvalidMessage):
        whole(kept, keys=household.keys("topology"))


@OBJECTS
def test_topology_sees_whether_a_value_changed(obj: dict[str, Any]) -> None:
    household = Household()
    kept = concealed(intent(obj), keys=household.keys("lifecycle"))
    compared = comparable(kept, keys=household.keys("topology"))

    assert as_found(compared, compared.object, obj) == obj
    changed = orjson.loads(orjson.dumps(obj).replace(CANARY.encode(), b"another"))
    seen = as_found(compared, compared.object, changed)
    assert seen != changed
    assert CANARY not in str(seen)


def test_without_the_key_nothing_counts_as_changed() -> None:
    """A sealing key that was forgotten must not look like drift of everything."""
    kept = concealed(intent(CONFIG_MAP), keys=Household().keys("lifecycle"))
    compared = comparable(kept, keys=Household().keys("topology"))

    found = {**CONFIG_MAP, "data": {"key": "another"}}
    assert as_found(compared, compared.object, found)["data"] == {"key": "another"}


def test_equal_values_of_two_records_have_no_equal_hashes() -> None:
    keys = Household().keys("lifecycle")
    first, second = (concealed(intent(CONFIG_MAP), keys=keys).object for _ in range(2))
    assert first["data"] != second["data"]


def test_nothing_is_sealed_where_nothing_is_hidden() -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a"},
        "spec": {"ports": [{"port": 1}]},
    }
    kept = concealed(intent(service), keys=Household().keys("lifecycle"))
    assert (kept.object, kept.sealed, kept.key) == (service, "", "")
    assert kept.digest == "d" * 32


def test_a_part_is_put_back_whole() -> None:
    key = os.urandom(hiding.KEY_BYTES)
    obj = {
        **DEPLOYMENT,
        "spec": {"containers": [{"env": [{"name": n, "value": n * 3} for n in "abc"]}]},
    }
    hidden = hiding.concealed("apps/Deployment", obj, key=key)
    assert hiding.restored(hidden, obj, concealed=hidden) == obj

    part = orjson.loads(orjson.dumps(hidden))
    del part["spec"]["containers"][0]["env"][1]
    del part["metadata"]["annotations"]
    put_back = hiding.restored(part, obj, concealed=hidden)
    assert put_back["spec"]["containers"][0]["env"] == [
        {"name": "a", "value": "aaa"},
        {"name": "c", "value": "ccc"},
    ]
    assert "annotations" not in put_back["metadata"]


def test_a_hash_of_elsewhere_is_no_value() -> None:
    """Who asks for a repair cannot have one value put into another one's place."""
    key = os.urandom(hiding.KEY_BYTES)
    obj = {**CONFIG_MAP, "data": {"secret": "s" * 8, "public": "p" * 8}}
    hidden = hiding.concealed("/ConfigMap", obj, key=key)
    swapped = {**hidden, "data": {"public": hidden["data"]["secret"]}}

    assert "s" * 8 not in str(hiding.restored(swapped, obj, concealed=hidden))
