"""A real istiod outside the cluster, in plain text on loopback.

It has no CA, no webhooks and no leader election: what is left is the translation of a cluster's
objects into Envoy's configuration, which is what tests of traffic are about. Its Istio-only Envoy
extensions are switched off, because the bed's Envoy is the upstream one and would refuse them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.testbed import building, loopback
from tests.testbed.processes import Process, wait_until

_READY_TIMEOUT_S = 30.0
_ENVIRONMENT = {
    "ENABLE_CA_SERVER": "false",
    "PILOT_CERT_PROVIDER": "none",
    "INJECTION_WEBHOOK_CONFIG_NAME": "",
    "VALIDATION_WEBHOOK_CONFIG_NAME": "",
    "ENABLE_LEADER_ELECTION": "false",
    "POD_NAMESPACE": "istio-system",
    "POD_NAME": "istiod-0",
    "REVISION": "default",
    "CLUSTER_ID": "Kubernetes",
    "XDS_AUTH": "false",
    "PILOT_ENABLE_METADATA_EXCHANGE": "false",
    "PILOT_ENABLE_ALPN_FILTER": "false",
    # A change reaches the proxies after a hundredth of a second instead of a tenth.
    "PILOT_DEBOUNCE_AFTER": "10ms",
}


class Istiod:
    """One istiod for the cluster behind a kubeconfig; Istio's definitions must be there already."""

    def __init__(
        self,
        folder: Path,
        *,
        kubeconfig: Path,
        trust_domain: str = "cluster.local",
        mesh_config: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Chooses ports; nothing runs before `start`. `mesh_config` adds to the MeshConfig, and
        `environment` to what istiod is told by variables."""
        self.folder = folder.resolve()
        self.trust_domain = trust_domain
        self.xds_port = loopback.take_port()
        self._http = f"{loopback.HOST}:{loopback.take_port()}"
        self._monitoring = f"{loopback.HOST}:{loopback.take_port()}"
        self._mesh_file = self.folder / "mesh.yaml"
        self._mesh_config = {
            "trustDomain": trust_domain,
            # With it, every cluster of every Envoy would wait for certificates.
            "enableAutoMtls": False,
            "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
            **(mesh_config or {}),
        }
        self.process = Process(
            "istiod",
            [building.binary("pilot-discovery"), *self._flags(kubeconfig.resolve())],
            log=self.folder / "istiod.log",
            environment={**_ENVIRONMENT, **(environment or {})},
        )

    def __enter__(self) -> Istiod:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts istiod and waits until it has read the cluster."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._mesh_file.write_text(yaml.safe_dump(self._mesh_config))
        self.process.start()
        try:
            wait_until(
                self._is_ready,
                timeout_s=_READY_TIMEOUT_S,
                what="istiod to be ready",
                processes=[self.process],
            )
        except BaseException:
            self.process.kill()
            raise

    def stop(self) -> None:
        """Ends istiod; it keeps nothing that would be worth an orderly end."""
        self.process.kill()

    def debug(self, path: str) -> Any:
        """Decoded answer of one of istiod's debug pages, such as `syncz` or `configz`."""
        return loopback.fetch_json(f"http://{self._http}/debug/{path}")

    def _is_ready(self) -> bool:
        return loopback.fetch(f"http://{self._http}/ready", timeout_s=2.0) is not None

    def _flags(self, kubeconfig: Path) -> list[str]:
        # Every listener is named: each default would be a fixed port on all interfaces.
        return [
            "discovery",
            f"--kubeconfig={kubeconfig}",
            f"--meshConfig={self._mesh_file}",
            f"--httpAddr={self._http}",
            "--httpsAddr=",
            f"--grpcAddr={loopback.HOST}:{self.xds_port}",
            "--secureGRPCAddr=",
            f"--monitoringAddr={self._monitoring}",
            "--ctrlz_port=0",
        ]
