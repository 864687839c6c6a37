"""Helm as a user runs it, and what it renders, for the suites about the chart."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.charting import CHART
from tests.testbed import building
from tests.testbed.processes import BedError
from tests.testbed.recipe import KUBERNETES_VERSION

RELEASE = "meshbus"
Object = dict[str, Any]

SWITCHES: dict[str, Mapping[str, Any]] = {
    "as it is": {},
    "everything on": {
        "policy": "rules: []\n",
        "gateway": {
            "anonymous": False,
            "tls": {"secret": "grpc", "clientCA": True},
            "tokensSecret": "tokens",
            "service": {"type": "LoadBalancer", "annotations": {"a.example/b": "c"}},
            "podSpec": {"nodeSelector": {"kubernetes.io/os": "linux"}},
        },
        "perf": {"scaling": {"by": "keda", "min": 1, "max": 4}},
        "lifecycle": {
            "settings": {"MESHBUS_LIFECYCLE_SLOTS": 4},
            "volumes": [{"name": "more", "emptyDir": {}}],
            "volumeMounts": [{"name": "more", "mountPath": "/more"}],
        },
        "istio": {"volume": {"persistentVolumeClaim": {"claimName": "istio"}}, "readOnly": True},
        "cluster": {
            "extraRules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
            "istiodNamespace": "istio-system",
        },
        "nats": {"replicas": 3, "tlsSecret": "nats-tls", "storage": {"className": "fast"}},
        "network": {"peers": {"traces": [{"namespaceSelector": {}}]}},
        "monitoring": {
            "serviceMonitor": True,
            "rules": True,
            "dashboard": True,
            "labels": {"release": "prometheus"},
        },
        "image": {"pullSecrets": [{"name": "registry"}], "tag": "@sha256:" + "0" * 64},
    },
    "three servers without TLS": {"nats": {"replicas": 3}, "perf": {"scaling": {"by": "hpa"}}},
    "one server with TLS": {"nats": {"tlsSecret": "nats-tls"}},
    "given keys and NATS": {
        "keys": {"existingSecret": "mine"},
        "nats": {
            **{"enabled": False, "url": "tls://nats.example:4222", "tlsSecret": "ca"},
            "regions": ["east=lifecycle,perf", "eu-west-1"],
        },
        "network": {"peers": {"nats": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}},
        "cluster": {"register": False},
    },
    "no policies": {
        "network": {"enabled": False},
        "gateway": {"anonymous": False, "tokensSecret": "tokens"},
    },
}
"""Values of each rendering that is looked at, by what is special about it."""


class Helm:
    """The program with a home of its own; `kubeconfig` is for what talks to a cluster."""

    def __init__(self, home: Path, kubeconfig: Path | None = None) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            **({"KUBECONFIG": str(kubeconfig)} if kubeconfig else {}),
        }

    def run(
        self, *arguments: str, values: Mapping[str, Any] | None = None, timeout_s: float = 300.0
    ) -> str:
        """What it prints; raises BedError with its words when it fails."""
        command = [str(building.binary("helm")), *arguments]
        if values:
            file = self.home / "values.yaml"
            file.write_text(yaml.safe_dump(dict(values)))
            command.append(f"--values={file}")
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=timeout_s
        )
        if done.returncode != 0:
            raise BedError(f"helm {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def rendered(self, values: Mapping[str, Any], *, namespace: str = "mb") -> list[Object]:
        """The chart's objects, hooks among them."""
        text = self.run(
            "template",
            RELEASE,
            str(CHART),
            f"--namespace={namespace}",
            f"--kube-version={KUBERNETES_VERSION}",
            values=values,
        )
        return [document for document in yaml.safe_load_all(text) if document]


def of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    """The objects of a kind, by name."""
    return {obj["metadata"]["name"]: obj for obj in objects if obj["kind"] == kind}


def lag(answer: Object, named: Mapping[str, str]) -> int:
    """What KEDA's scaler `nats-jetstream` makes of `/jsz`: it waits for, and it works on."""
    [account] = [a for a in answer["account_details"] if a["name"] == named["account"]]
    [stream] = [s for s in account["stream_detail"] if s["name"] == named["stream"]]
    [consumer] = [c for c in stream["consumer_detail"] if c["name"] == named["consumer"]]
    return int(consumer["num_pending"]) + int(consumer["num_ack_pending"])
