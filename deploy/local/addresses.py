"""Where an installation is reached: its ports, a screen for people, a file for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.local.probing import HOST, is_taken
from deploy.local.processes import LaunchError
from deploy.nats.keys import write_private

FILE = "addresses.json"
NATS, MONITORING, GATEWAY = 4222, 8222, 10000
HTTP = {"gateway": 9110, "lifecycle": 9111, "translator": 9112, "perf": 9113, "topology": 9114}
"""Health, metrics and pages by service, as each has it by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Every port of an installation on one machine."""

    nats: int
    monitoring: int
    gateway: int
    http: Mapping[str, int]

    @classmethod
    def moved(cls, offset: int) -> Ports:
        """The default ones, all moved by `MESHBUS_PORT_OFFSET`."""
        return cls(
            nats=NATS + offset,
            monitoring=MONITORING + offset,
            gateway=GATEWAY + offset,
            http={service: port + offset for service, port in HTTP.items()},
        )

    def named(self) -> dict[str, int]:
        """Each port by what listens there."""
        pages = {f"{service}'s health and metrics": port for service, port in self.http.items()}
        return {
            "NATS": self.nats,
            "NATS' monitoring": self.monitoring,
            "the gateway": self.gateway,
            **pages,
        }

    def require_free(self) -> None:
        """Raises `LaunchError` with all ports at once that somebody else has."""
        taken = [f"{port} ({name})" for name, port in self.named().items() if is_taken(port)]
        if taken:
            raise LaunchError(
                f"somebody else listens on {', '.join(taken)}: end it (`ss -ltnp` shows who), or "
                "move all ports of Meshbus with MESHBUS_PORT_OFFSET=100 make up"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """What `addresses.json` holds; keys are only added to it."""

    gateway: str
    """host:port of gRPC: Meshery's `ADAPTER_URLS`."""
    console: str
    """URL of the console."""
    nats: str
    """URL of the NATS server."""
    operator_nkey: str
    """Path of the seed file of the NATS user for people."""
    kube: Sequence[Mapping[str, str]]
    """Registered clusters: `name`, `cluster` (its token on the bus)."""
    monitoring: str
    """URL of NATS' monitoring pages."""
    health: Mapping[str, str]
    """Base URL of each service's `/livez`, `/readyz`, `/metrics` and `/version`."""
    releases: str
    """Folder with Istio releases."""
    logs: str
    console_token: str = ""
    """Path of the file with the token to sign in by; "" where people prove otherwise who they
    are."""

    def write(self, folder: Path) -> None:
        write_private(folder / FILE, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Addresses | None:
        """What a running installation has written there; None where none runs."""
        try:
            return cls(**json.loads((folder / FILE).read_text()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            raise LaunchError(
                f"{folder / FILE} cannot be read: end the installation and start it again"
            ) from None

    @property
    def context_line(self) -> str:
        """The command by which the nats CLI reaches the server as the operator."""
        return (
            f"nats context save meshbus --server {self.nats} --nkey {self.operator_nkey} "
            "--inbox-prefix _INBOX_operator --select"
        )

    def screen(self, versions: str) -> str:
        """One screen for people; `versions` tells the Istio releases at hand."""
        clusters = ", ".join(f"{c['name']} ({c['cluster'][:8]}…)" for c in self.kube)
        rows = {
            "gateway": f"{self.gateway}   gRPC, every generation of Meshery's contract",
            "Meshery": f"ADAPTER_URLS={self.gateway}",
            "console": self.console
            + (f"   sign in by the token in {self.console_token}" if self.console_token else ""),
            "NATS": self.nats,
            "nats CLI": self.context_line,
            "health": ", ".join(f"{n} {u}" for n, u in self.health.items()).replace("http://", ""),
            "clusters": clusters
            or "none yet: CLUSTER=~/.kube/config[:context] make up, "
            "or the first operation from Meshery",
            "Istio": versions
            or f"no release in {self.releases} yet: unpack one there "
            "as <version>/, or name another folder in MESHBUS_LIFECYCLE_DISTRIBUTIONS",
            "logs": self.logs,
        }
        return "\n".join(f"  {name:<11}{text}" for name, text in rows.items())


def host_of(settings: Mapping[str, str]) -> str:
    """Where the gateway listens, as a client on this machine reaches it."""
    host = settings.get("MESHBUS_GATEWAY_HOST", HOST)
    return HOST if host in ("0.0.0.0", "::") else host
