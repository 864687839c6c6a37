"""Answers over the service API; no query changes a cluster.

`nats req mesh.translator.translate < file.yaml` takes a manifest as it is; a JSON request may also
name a registered cluster, so that its services, workloads and versions count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.chassis.bus.queries import Query
from services.chassis.errors import MalformedRequest, SchemasMissing
from services.chassis.kube.manifests import dump_manifest, parse_manifest, unpacked
from services.chassis.kube.objects import KubeObject
from services.chassis.reading.aside import read_aside
from services.translator.contexts import installed_version
from services.translator.istio.versions import nearest
from services.translator.manifests import read_request, translated
from services.translator.reports import errors
from services.translator.smi.naming import is_label
from services.translator.translating import Translation
from services.translator.upgrades.upgrading import upgrade_report
from services.translator.work import Cluster, Definitions

_MANIFEST = "manifest"
_USAGE = '{"manifest": YAML, "cluster": TOKEN, "namespace": NAME, "istioVersion": "1.31.0"} or YAML'


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of one worker; any replica can give them."""

    definitions: Definitions
    cluster_of: Callable[[str], Cluster]
    """A registered cluster by its token."""

    def queries(self) -> list[Query]:
        return [
            Query("translate", _USAGE, self.translate, text_field=_MANIFEST),
            Query("validate", _USAGE, self.validate, text_field=_MANIFEST),
            Query(
                "upgrade",
                '{"manifest": YAML or "cluster": TOKEN, "from": "1.30.3", "to": "1.31.0"}',
                self.upgrade,
            ),
            Query("versions", "{}", self.versions),
        ]

    async def translate(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Translates the manifest: the objects, the report and the findings."""
        translation = await self._translated(asked)
        objects = [obj for step in translation.steps for obj in step.objects]
        return {
            "objects": objects,
            "yaml": dump_manifest(objects),
            "report": [line.as_json() for line in translation.lines],
            "findings": [finding.as_json() for finding in translation.findings],
            "steps": [step.title for step in translation.steps],
        }

    async def validate(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Finds all that is wrong with the manifest, with line and path."""
        translation = await self._translated(asked)
        return {
            "valid": not errors(translation.findings),
            "findings": [finding.as_json() for finding in translation.findings],
        }

    async def upgrade(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Reports what an upgrade from one version to another would change for the objects."""
        target = _text(asked, "to")
        current = _text(asked, "from")
        objects = asked.get("objects")
        found: Sequence[KubeObject]
        if isinstance(objects, list):
            found = [
                obj
                for number, value in enumerate(objects, start=1)
                for obj, _ in unpacked(value, where=f"object {number}")
            ]
        elif asked.get("cluster"):
            found, installed = await self._configuration(_text(asked, "cluster"))
            current = current or installed
        else:
            text = _text(asked, _MANIFEST)
            found = await read_aside(lambda: parse_manifest(text), size=len(text))
        if not target or not current:
            raise MalformedRequest(
                "the versions are missing", remedy='send {"from": VERSION, "to": VERSION, …}'
            )
        report = upgrade_report(
            found,
            current=current,
            target=target,
            current_schemas=await self._schemas(current),
            target_schemas=await self._schemas(target),
        )
        return report.as_json()

    async def versions(self, _asked: dict[str, Any]) -> dict[str, Any]:
        """Versions whose definitions are here, newest first."""
        return {"versions": self.definitions.versions()}

    async def _translated(self, asked: dict[str, Any]) -> Translation:
        namespace = _text(asked, "namespace") or "default"
        if not is_label(namespace):
            raise MalformedRequest("namespace is not a namespace's name", remedy=f"send {_USAGE}")
        request = await read_request(
            _text(asked, _MANIFEST), namespace=namespace, is_deletion=False
        )
        version = _text(asked, "istioVersion")
        if version:
            options = request.options.model_copy(update={"istioVersion": version})
            request = replace(request, options=options)
        token = _text(asked, "cluster")
        cluster = self.cluster_of(token) if token else None
        return await translated(request, cluster, self.definitions)

    async def _configuration(self, token: str) -> tuple[Sequence[KubeObject], str]:
        """A cluster's Istio objects, and the version that is installed."""
        cluster = self.cluster_of(token)
        served = await cluster.facts()
        facts = await cluster.facts(kinds=served.configuration_kinds(), planes=True)
        return facts.objects, installed_version(facts.meshes)

    async def _schemas(self, version: str) -> Any:
        """The definitions of a version or its minor; None without any."""
        try:
            return await self.definitions.schemas(nearest(version, self.definitions.versions()))
        except SchemasMissing:
            return None


def _text(asked: dict[str, Any], name: str) -> str:
    value = asked.get(name, "")
    if not isinstance(value, str):
        raise MalformedRequest(f"{name} is not text", remedy=f"send {_USAGE}")
    return value
