"""Telemetry, plugins, scripts and settings of proxies."""

from __future__ import annotations

import re

import cel

from services.translator.validity.names import check_attachment, check_selector
from services.translator.validity.parts import Part
from services.translator.validity.urls import is_written, scheme_of
from services.translator.validity.values import check_port, check_readable_time

_DIGEST = re.compile(r"[a-f0-9]{64}\Z")
_SCHEMES = frozenset({"", "oci", "http", "https", "file"})
# An identifier in backquotes, which Envoy's CEL reads and ours does not.
_QUOTED = re.compile(r"(?<=\.)`[-A-Za-z0-9_./ ]+`")
_LARGEST_SCRIPT = 65536


def check_telemetry(obj: Part) -> None:
    """Its tracing, metrics and logs."""
    spec = obj["spec"]
    check_attachment(spec)
    for name in ("tracing", "metrics", "accessLogging"):
        for setting in spec[name]:
            for provider in setting["providers"]:
                if not provider["name"].text:
                    provider["name"].tell("provider-unnamed")
    if len(list(spec["tracing"])) > 1:
        spec["tracing"].tell("tracing-several")
    for tracing in spec["tracing"]:
        _check_tracing(tracing)
    for metrics in spec["metrics"]:
        check_readable_time(metrics["reportingInterval"])
        for override in metrics["overrides"]:
            _check_override(override)
    for logging in spec["accessLogging"]:
        if logging["filter"]:
            _check_filter(logging["filter"]["expression"])


def _check_tracing(tracing: Part) -> None:
    share = tracing["randomSamplingPercentage"]
    if not 0 <= share.number <= 100:
        share.tell("percent-out-of-range")
    if len(list(tracing["providers"])) > 1:
        tracing["providers"].tell("providers-several")
    for name, tag in tracing["customTags"].fields():
        if not name:
            tag.tell("text-empty")
        for form, field in (("literal", "value"), ("header", "name"), ("environment", "name")):
            if tag[form] and not tag[form][field].text:
                tag[form][field].tell("text-empty")


def _check_override(override: Part) -> None:
    metric = override["match"]["customMetric"]
    if metric and not metric.text:
        metric.tell("text-empty")
    for _, tag in override["tagOverrides"].fields():
        is_removal = tag["operation"].text == "REMOVE"
        if is_removal and tag["value"].text:
            tag["value"].tell("tag-removed-with-value")
        elif not is_removal and not tag["value"].text:
            tag["value"].tell("tag-without-value")


def _check_filter(expression: Part) -> None:
    """An expression of CEL; which names there are is Envoy's to say."""
    try:
        cel.compile(_QUOTED.sub("x", expression.text))
    except (ValueError, TypeError, RuntimeError):
        expression.tell("cel-unreadable")


def check_plugin(obj: Part) -> None:
    """A WasmPlugin."""
    spec = obj["spec"]
    check_attachment(spec)
    _check_module(spec)
    _check_traffic(spec)


def check_traffic_extension(obj: Part) -> None:
    """A plugin or a script, one of them."""
    spec = obj["spec"]
    check_attachment(spec)
    wasm, lua = spec["wasm"], spec["lua"]
    if not wasm and not lua:
        spec.tell("extension-missing")
    if wasm:
        _check_module(wasm)
    if lua:
        script = lua["inlineCode"]
        if not script.text:
            script.tell("text-empty")
        elif len(script.text.encode()) > _LARGEST_SCRIPT:
            script.tell("script-too-long", limit=_LARGEST_SCRIPT)
    _check_traffic(spec)


def _check_traffic(spec: Part) -> None:
    for match in spec["match"]:
        for port in match["ports"]:
            check_port(port["number"])


def _check_module(module: Part) -> None:
    url, checksum = module["url"], module["sha256"]
    if not url.text:
        url.tell("text-empty")
    scheme = scheme_of(url.text)
    if scheme not in _SCHEMES:
        url.tell("module-scheme", scheme=scheme)
    elif not is_written(url.text):
        url.tell("address-unreadable")
    if checksum.text and not _DIGEST.match(checksum.text):
        checksum.tell("checksum")
    known: set[str] = set()
    for variable in module["vmConfig"]["env"]:
        name = variable["name"]
        if not name.text:
            name.tell("text-empty")
        if name.text in known:
            name.tell("variable-twice", name=name.text)
        known.add(name.text)
        if variable["valueFrom"].text == "HOST" and variable["value"].text:
            variable["value"].tell("variable-value-of-host")


def check_proxy_config(obj: Part) -> None:
    """Settings of proxies."""
    spec = obj["spec"]
    check_selector(spec["selector"])
    if spec["concurrency"].number < 0:
        spec["concurrency"].tell("negative")
