"""What the translator costs: a thousand SMI objects, one component of a design, a large design."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import yaml

from services.chassis.kube.objects import KubeObject
from services.chassis.messages import ClusterFacts, ServiceFact, ServicePort, WorkloadFact
from services.translator.adapters.distributions import Distributions
from services.translator.documents import read_input
from services.translator.manifests import read_request, translated
from services.translator.reports import errors
from tests.bench.measuring import peak_memory_mib
from tests.testbed.building import distributions_folder, gateway_api_folder
from tests.testbed.generations import GenerationClient
from tests.testbed.recipe import ISTIO_VERSION

SMI_OBJECTS = 1000
DESIGN_BYTES = 5_000_000
_NAMESPACE = "shop"
_PORT = ServicePort(port=8080, name="http", target_port="8080")


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Work in one process, without a cluster; seconds of its parts."""

    name: str
    objects: int
    total: Sequence[float]
    reading: Sequence[float]

    def row(self) -> str:
        total, reading = statistics.median(self.total), statistics.median(self.reading)
        return (
            f"| {self.name} | {self.objects / total:.0f} objects/s | {total:.2f} s "
            f"| {100 * reading / total:.0f} % |"
        )


async def throughput(turns: int) -> Throughput:
    """Read, translate and validate a thousand SMI objects, from YAML to Istio's objects."""
    text = smi_manifest(SMI_OBJECTS)
    work = await translating(SMI_OBJECTS)
    total, reading = [], []
    for _ in range(turns):
        began = time.perf_counter()
        read_input(text)
        reading.append(time.perf_counter() - began)
        began = time.perf_counter()
        await work()
        total.append(time.perf_counter() - began)
    return Throughput(
        name=f"Read, translate and validate {SMI_OBJECTS} SMI objects",
        objects=SMI_OBJECTS,
        total=total,
        reading=reading,
    )


async def translating(objects: int) -> Callable[[], Awaitable[None]]:
    """Reads, translates and validates that many SMI objects, whenever it is called."""
    text, facts = smi_manifest(objects), smi_facts(objects)
    definitions = Distributions(distributions_folder(), gateway_api_folder())
    await definitions.schemas(ISTIO_VERSION)

    async def work() -> None:
        request = await read_request(text, namespace=_NAMESPACE, is_deletion=False)
        translation = await translated(request, Known(facts), definitions)
        assert not errors(translation.findings), errors(translation.findings)[:3]

    return work


@dataclass(frozen=True, slots=True)
class Known:
    """Facts that need no cluster."""

    found: ClusterFacts

    async def facts(
        self,
        *,
        namespaces: Sequence[str] = (),
        kinds: Sequence[str] = (),
        managed_kinds: Sequence[str] = (),
        planes: bool = False,
    ) -> ClusterFacts:
        return self.found

    async def dry_run(self, objects: Sequence[KubeObject]) -> list[str]:
        raise NotImplementedError("a translation applies nothing")

    async def vetted(self) -> dict[str, Any]:
        raise NotImplementedError("a translation looks at no running mesh")


def smi_manifest(objects: int) -> str:
    """Splits, and targets with their route groups: a third of the objects each."""
    documents = []
    for number in range(objects // 3 + 1):
        documents += [
            smi_object(
                "split",
                "TrafficSplit",
                f"split-{number}",
                {
                    "service": f"root-{number}",
                    "backends": [
                        {"service": f"root-{number}-v1", "weight": 75},
                        {"service": f"root-{number}-v2", "weight": 25},
                    ],
                },
            ),
            smi_object(
                "specs",
                "HTTPRouteGroup",
                f"routes-{number}",
                {"matches": [{"name": "all", "pathRegex": f"/api/{number}", "methods": ["GET"]}]},
            ),
            smi_object(
                "access",
                "TrafficTarget",
                f"target-{number}",
                {
                    "destination": account(f"account-{number}"),
                    "sources": [account("client")],
                    "rules": [{"kind": "HTTPRouteGroup", "name": f"routes-{number}"}],
                },
            ),
        ]
    return str(yaml.dump_all(documents[:objects], Dumper=yaml.CSafeDumper))


def smi_object(group: str, kind: str, name: str, spec: dict[str, object]) -> dict[str, object]:
    version = "v1alpha3" if group == "access" else "v1alpha4"
    return {
        "apiVersion": f"{group}.smi-spec.io/{version}",
        "kind": kind,
        "metadata": {"name": name, "namespace": _NAMESPACE},
        "spec": spec,
    }


def account(name: str) -> dict[str, str]:
    return {"kind": "ServiceAccount", "name": name, "namespace": _NAMESPACE}


def smi_facts(objects: int) -> ClusterFacts:
    numbers = range(objects // 3 + 1)
    services = [
        ServiceFact(namespace=_NAMESPACE, name=f"root-{number}{suffix}", ports=[_PORT])
        for number in numbers
        for suffix in ("", "-v1", "-v2")
    ]
    workloads = [
        WorkloadFact(
            namespace=_NAMESPACE,
            kind="Deployment",
            name=f"workload-{number}",
            service_account=f"account-{number}",
            labels={"app": f"workload-{number}"},
            selector={"app": f"workload-{number}"},
        )
        for number in numbers
    ]
    return ClusterFacts(services=services, workloads=workloads, read_namespaces=[_NAMESPACE])


# --- one component -------------------------------------------------------------------------------


def virtual_service(name: str, *, revision: int) -> dict[str, object]:
    """One that differs with `revision`, so that each apply is a change."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "hosts": [name],
            "http": [{"timeout": f"{revision + 1}s", "route": [{"destination": {"host": name}}]}],
        },
    }


async def process_oam(
    client: GenerationClient, kubeconfig: str, name: str, *, revision: int
) -> float:
    """Seconds of one ProcessOAM call with one VirtualService."""
    obj = virtual_service(name, revision=revision)
    component = {
        "kind": "Component",
        "apiVersion": "core.oam.dev/v1alpha2",
        "metadata": {
            "name": name,
            "namespace": "default",
            "annotations": {
                "design.meshmodel.io.k8s.APIVersion": obj["apiVersion"],
                "design.meshmodel.io.k8s.Kind": obj["kind"],
            },
        },
        "spec": {"type": "VirtualService", "settings": {"spec": obj["spec"]}},
    }
    request = {
        "oam_comps": [json.dumps(component)],
        "oam_config": "{}",
        "kube_configs": [kubeconfig],
    }
    began = time.monotonic()
    answer = await client.call("ProcessOAM", request, timeout_seconds=30.0)
    seconds = time.monotonic() - began
    assert "deployed successfully" in answer.message, answer.message
    return seconds


# --- a large design ------------------------------------------------------------------------------


def large_design() -> str:
    """A design of about 5 MB: 500 ConfigMaps with text that compresses as text does."""
    words = [uuid.UUID(int=number).hex for number in range(64)]
    share = DESIGN_BYTES // 500
    components = [
        {
            "displayName": f"config-{number}",
            "component": {"kind": "ConfigMap", "version": "v1"},
            "configuration": {
                "metadata": {"namespace": "default"},
                "data": {"text": " ".join(words[(number + n) % 64] for n in range(share // 33))},
            },
        }
        for number in range(500)
    ]
    design = {
        "schemaVersion": "designs.meshery.io/v1beta1",
        "name": "large",
        "components": components,
    }
    return orjson.dumps(design).decode()


async def read_large_design() -> None:
    """What the translator does with it before it hands the plan on."""
    definitions = Distributions(distributions_folder(), gateway_api_folder())
    request = await read_request(large_design(), namespace="default", is_deletion=False)
    translation = await translated(request, None, definitions)
    assert len(translation.steps) == 500


def main() -> None:
    """Prints the peak memory of this process after a large design: run as a process of its own."""
    before = peak_memory_mib(os.getpid())
    asyncio.run(read_large_design())
    print(json.dumps({"before": before, "after": peak_memory_mib(os.getpid())}))


if __name__ == "__main__":
    main()
