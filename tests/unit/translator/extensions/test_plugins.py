"""Plugins that proxies load: each rule with what breaks it and what does not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from services.chassis.kube.objects import KubeObject
from services.translator.extensions.plugins import check_plugin
from tests.unit.translator.objects import obj

SUM = "0123456789abcdef" * 4
OTHER_SUM = "f" * 64
PINNED = {"imagePullPolicy": "IfNotPresent"}


def wasm(url: str, **spec: Any) -> dict[str, Any]:
    """A module whose failing is settled."""
    return {"url": url, "failStrategy": "FAIL_CLOSE", **spec}


def with_env(name: str, value: str | None = None) -> dict[str, Any]:
    given = {"valueFrom": "HOST"} if value is None else {"value": value}
    return wasm(f"oci://r/a@sha256:{SUM}", vmConfig={"env": [{"name": name, **given}]})


# Findings as (level, rule without its prefix, place in the module).
CASES: dict[str, tuple[dict[str, Any], list[tuple[str, str, str]]]] = {
    "image by digest": (wasm(f"oci://r.example/a@sha256:{SUM}"), []),
    "image by digest, without a scheme": (wasm(f"r.example/a@sha256:{SUM}"), []),
    "image by digest and the same checksum": (wasm(f"oci://r/a@sha256:{SUM}", sha256=SUM), []),
    "image by digest and another checksum": (
        wasm(f"oci://r/a@sha256:{SUM}", sha256=OTHER_SUM),
        [("error", "checksum-differs", "sha256")],
    ),
    "image by a digest that is none": (
        wasm("oci://r/a@sha256:abc"),
        [("error", "checksum-form", "url")],
    ),
    "image by tag with a policy": (wasm("oci://r:5000/a:1.2", **PINNED), []),
    "image by tag with a checksum": (wasm("oci://r/a:1.2", sha256=SUM), []),
    "image by tag": (wasm("oci://r/a:1.2"), [("info", "unpinned", "url")]),
    "image by tag that is always pulled": (
        wasm("oci://r/a:1.2", imagePullPolicy="Always"),
        [("warning", "mutable-tag", "imagePullPolicy")],
    ),
    "image without a tag": (
        wasm("oci://r:5000/a", **PINNED),
        [("warning", "mutable-tag", "url")],
    ),
    "image by a tag that moves": (
        wasm("r/a:latest", **PINNED),
        [("warning", "mutable-tag", "url")],
    ),
    "download with a checksum": (wasm("https://a/b.wasm", sha256=SUM), []),
    "download": (wasm("https://a/b.wasm"), [("warning", "unpinned", "url")]),
    "download over plain HTTP": (
        wasm("http://a/b.wasm", sha256=SUM),
        [("warning", "plain-http", "url")],
    ),
    "download over plain HTTP without a checksum": (
        wasm("http://a/b.wasm"),
        [("warning", "unpinned", "url"), ("warning", "plain-http", "url")],
    ),
    "address with a password": (
        wasm("https://user:pass@a/b.wasm", sha256=SUM),
        [("warning", "credentials", "url")],
    ),
    "file": (wasm("file:///opt/a.wasm"), [("info", "local-file", "url")]),
    "unknown scheme": (wasm("ftp://a/b.wasm"), [("error", "address", "url")]),
    "no address": (wasm("https://[a/b.wasm"), [("error", "address", "url")]),
    "checksum with a prefix": (
        wasm("https://a/b.wasm", sha256=f"sha256:{SUM}"),
        [("error", "checksum-form", "sha256")],
    ),
    "checksum in capitals": (
        wasm("https://a/b.wasm", sha256=SUM.upper()),
        [("error", "checksum-form", "sha256")],
    ),
    "no fail strategy": (
        {"url": f"oci://r/a@sha256:{SUM}"},
        [("info", "fail-strategy", "failStrategy")],
    ),
    "secret by its name": (
        with_env("API_TOKEN", "hunter2"),
        [("warning", "secret-in-environment", "vmConfig.env[0].value")],
    ),
    "secret by its look": (
        with_env("SETTING", "-----BEGIN RSA PRIVATE KEY-----"),
        [("warning", "secret-in-environment", "vmConfig.env[0].value")],
    ),
    "secret from the host": (with_env("API_TOKEN"), []),
    "setting that is no secret": (with_env("LOG_LEVEL", "debug"), []),
}


@pytest.mark.parametrize("kind", ["WasmPlugin", "TrafficExtension"])
@pytest.mark.parametrize("case", CASES)
def test_findings(case: str, kind: str) -> None:
    module, expected = CASES[case]
    is_plugin = kind == "WasmPlugin"
    given = obj("extensions.istio.io/v1alpha1", kind, module if is_plugin else {"wasm": module})
    before = copy.deepcopy(given)
    found = check_plugin(given)
    assert given == before
    base = "spec." if is_plugin else "spec.wasm."
    assert [(f.level.value, f.rule, f.place) for f in found] == [
        (level, f"plugin/{rule}", f"{base}{place}") for level, rule, place in expected
    ]


@pytest.mark.parametrize(
    ("phase", "strategy", "is_told"),
    [
        ("AUTHN", "FAIL_OPEN", True),
        ("AUTHZ", "FAIL_OPEN", True),
        ("STATS", "FAIL_OPEN", False),
        ("AUTHN", "FAIL_CLOSE", False),
        ("AUTHN", "FAIL_RELOAD", False),
    ],
)
def test_a_guard_that_fails_open_is_told(phase: str, strategy: str, is_told: bool) -> None:
    module = wasm(f"oci://r/a@sha256:{SUM}", failStrategy=strategy)
    for given in (
        obj("extensions.istio.io/v1alpha1", "WasmPlugin", {**module, "phase": phase}),
        obj("extensions.istio.io/v1alpha1", "TrafficExtension", {"wasm": module, "phase": phase}),
    ):
        rules = [finding.rule for finding in check_plugin(given)]
        assert rules == (["plugin/fail-strategy"] if is_told else [])


@pytest.mark.parametrize(
    "module",
    [
        with_env("PASSWORD", "hunter2-hunter2"),
        wasm("http://user:hunter2-hunter2@a/b.wasm?token=hunter2-hunter2"),
    ],
    ids=["environment", "address"],
)
def test_secrets_are_never_quoted(module: dict[str, Any]) -> None:
    given = obj("extensions.istio.io/v1alpha1", "WasmPlugin", module)
    found = check_plugin(given)
    assert found
    assert "hunter2" not in repr([finding.as_json() for finding in found])


@pytest.mark.parametrize(
    "given",
    [
        obj("extensions.istio.io/v1alpha1", "TrafficExtension", {"lua": {"inlineCode": "x"}}),
        obj("example.io/v1", "WasmPlugin", {"url": "http://a"}),
        obj("extensions.istio.io/v1alpha1", "Other", {"url": "http://a"}),
    ],
    ids=lambda given: given["kind"],
)
def test_other_objects_are_not_looked_at(given: KubeObject) -> None:
    assert check_plugin(given) == []
