"""Packages of models, as Meshery's registry takes them: what its page knows of a mesh.

Meshery's page offers the versions of the registered models `istio`, and stops at its own check when
there is none. So there is one model for each Istio version that can be installed; its `version`
is what the page offers, and what it sends back with an operation. A model without components is
passed over in silence: it has the kinds of the version's own definitions, or, while these are not
here yet, the IstioOperator that the operation `istio` takes in its body.

The registrant has no port in its metadata: with one, Meshery hands designs to that address and
fails on the number itself; without, it deploys them on its own.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Iterator
from typing import Any

import orjson

from services.chassis.kube.manifests import parse_trusted_document
from services.chassis.kube.objects import KubeObject
from services.chassis.reading.yamls import YamlProblem

MODEL = "istio"
"""The name by which Meshery's page looks for versions: ComponentInfo's, in lower case."""
_MODEL_SCHEMA = "models.meshery.io/v1beta1"
_COMPONENT_SCHEMA = "components.meshery.io/v1beta1"
# Of the definitions themselves; what they are about has a version of its own.
_DEFINITION_VERSION = "v1.0.0"
_COLOR = "#466BB0"
_SEPARATOR = re.compile(r"^---(?:\s.*)?$", re.MULTILINE)
_OURS = re.compile(r"\.istio\.io\Z")
_OPERATOR_SCHEMA = {
    "type": "object",
    "title": "Istio Operator",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "profile": {"type": "string"},
                "revision": {"type": "string"},
                "components": {"type": "object"},
                "meshConfig": {"type": "object"},
                "values": {"type": "object"},
            },
        }
    },
}


def file_name(version: str) -> str:
    """The package's; Meshery tells the form by its end."""
    return f"{MODEL}-{version}.tar.gz"


def packed(version: str, definitions: str) -> bytes:
    """The package of one Istio version: the same bytes for the same definitions.

    `definitions` is the YAML text of the version's CustomResourceDefinitions, or "".
    """
    model = _model(version)
    components = [_component(model, *kind) for kind in _kinds(definitions)] or [
        _component(model, "install.istio.io/v1alpha1", "IstioOperator", True, _OPERATOR_SCHEMA)
    ]
    files = {"model.json": model}
    files |= {f"components/{made['component']['kind']}.json": made for made in components}
    archive = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=archive, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for name, content in files.items():
            body = orjson.dumps(content)
            member = tarfile.TarInfo(f"{MODEL}/{name}")
            member.size, member.mode = len(body), 0o644
            tar.addfile(member, io.BytesIO(body))
    return archive.getvalue()


def _model(version: str) -> dict[str, Any]:
    return {
        "schemaVersion": _MODEL_SCHEMA,
        "version": version,
        "name": MODEL,
        "displayName": "Istio",
        "status": "enabled",
        "registrant": {
            "name": "Meshbus",
            "type": "registry",
            "kind": "meshbus",
            "status": "registered",
            "metadata": {},
        },
        "category": {"name": "Cloud Native Network"},
        "subCategory": "Service Mesh",
        "metadata": {
            "isAnnotation": False,
            "primaryColor": _COLOR,
            "shape": "circle",
            "svgColor": "",
            "svgWhite": "",
        },
        "model": {"version": version},
    }


def _component(
    model: dict[str, Any], api_version: str, kind: str, namespaced: bool, schema: dict[str, Any]
) -> dict[str, Any]:
    return {
        "schemaVersion": _COMPONENT_SCHEMA,
        "version": _DEFINITION_VERSION,
        "displayName": _spaced(kind),
        "description": "",
        "format": "JSON",
        "status": "enabled",
        "model": model,
        "metadata": {"isAnnotation": False, "isNamespaced": namespaced, "published": True},
        "styles": {"primaryColor": _COLOR, "shape": "circle", "svgColor": "", "svgWhite": ""},
        "component": {
            "kind": kind,
            "version": api_version,
            "schema": orjson.dumps(schema).decode(),
        },
    }


def _kinds(definitions: str) -> Iterator[tuple[str, str, bool, dict[str, Any]]]:
    """Version, kind, whether it lies in a namespace, and schema of each kind of Istio's."""
    for text in _SEPARATOR.split(definitions):
        try:
            document = parse_trusted_document(text) if text.strip() else None
        except YamlProblem:
            continue
        if document is None or document["kind"] != "CustomResourceDefinition":
            continue
        found = _kind(document["spec"])
        if found is not None:
            yield found


def _kind(spec: KubeObject) -> tuple[str, str, bool, dict[str, Any]] | None:
    served = [each for each in spec.get("versions") or [] if each.get("served")]
    if not _OURS.search(spec["group"]) or not served:
        return None
    chosen = next((each for each in served if each.get("storage")), served[0])
    kind = spec["names"]["kind"]
    properties = chosen["schema"]["openAPIV3Schema"].get("properties") or {}
    schema = {
        "type": "object",
        "title": _spaced(kind),
        # The rest is Meshery's to fill in, or the cluster's.
        "properties": {name: part for name, part in properties.items() if name == "spec"},
    }
    version = f"{spec['group']}/{chosen['name']}"
    return version, kind, spec.get("scope") == "Namespaced", schema


def _spaced(kind: str) -> str:
    """`VirtualService` as people read it: "Virtual Service"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind)
