"""Names on the bus. User text never becomes a subject token: it is checked or hashed here."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_REGION = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")
_LONGEST_REGION = 32
_AT = "at"
"""Comes before a region in the subject of a command; no service has this name."""


def token(text: str) -> str:
    """`text` itself when it is a safe subject and key token, else a hash of it (26 characters)."""
    return text if _TOKEN.match(text) else "x" + hash_token(text.encode(), length=25)


def hash_token(data: bytes, *, length: int = 16) -> str:
    """Lower-case base32 of the SHA-256 of `data`, cut to `length`."""
    digest = hashlib.sha256(data).digest()
    return base64.b32encode(digest).decode().lower().rstrip("=")[:length]


def is_region(text: str) -> bool:
    """Whether `text` may name a region: lower-case words, digits and hyphens between them."""
    return len(text) <= _LONGEST_REGION and _REGION.match(text) is not None


def consumer(name: str, region: str = "") -> str:
    """The durable consumer of commands of that name, of a region's own workers."""
    return f"{name}_at_{region}" if region else name


def in_region(subject: str, region: str) -> str:
    """Where a command for this subject waits for the workers of a region; without one, there."""
    return subject.replace("cmd.", f"cmd.{_AT}.{token(region)}.", 1) if region else subject


@dataclass(frozen=True, slots=True)
class CommandSubject:
    """A subject of the stream CMD, taken apart."""

    service: str
    cluster: str
    operation: str | None
    """None on the mesh slot, which all operations of a cluster share."""
    sender: str = ""
    """The service that hands something on; "" where the gateway or a person asks."""
    region: str = ""
    """Whose workers take it; "" for those of no region."""

    @classmethod
    def parse(cls, subject: str) -> CommandSubject | None:
        """The parts of `subject`; None for one of another form than workers consume."""
        region, tokens = _split(subject)
        match tokens:
            case ["cmd", service, cluster, "mesh"]:
                return cls(service, cluster, None, region=region)
            case ["cmd", service, cluster, "apply", operation]:
                return cls(service, cluster, operation, region=region)
            case ["cmd", service, cluster, "from", sender, operation]:
                return cls(service, cluster, operation, sender, region)
        return None


def _split(subject: str) -> tuple[str, list[str]]:
    """The region in the subject of a command, and what it would be without one."""
    match subject.split("."):
        case ["cmd", str(at), region, *rest] if at == _AT:
            return region, ["cmd", *rest]
        case tokens:
            return "", tokens


def service_of(subject: str) -> str:
    """The service that a command is for, also of one that is of no form that workers consume."""
    _, tokens = _split(subject)
    return tokens[1] if len(tokens) > 1 else "unknown"


def mesh_command(*, service: str, cluster: str, region: str = "") -> str:
    """The slot of everything that changes the mesh of `cluster`: one message at a time."""
    return in_region(f"cmd.{service}.{cluster}.mesh", region)


def apply_command(*, service: str, cluster: str, operation: str, region: str = "") -> str:
    return in_region(f"cmd.{service}.{cluster}.apply.{token(operation)}", region)


def handed_on(*, service: str, cluster: str, sender: str, operation: str, region: str = "") -> str:
    """Where `sender` asks another service. NATS lets each service publish under its own name only,
    so the subject says who asks."""
    return in_region(f"cmd.{service}.{cluster}.from.{sender}.{token(operation)}", region)


def event(*, service: str, cluster: str, operation: str) -> str:
    return f"evt.{service}.{cluster}.{token(operation)}"


def dead_letter(service: str) -> str:
    return f"dlq.{service}"


def audit(service: str) -> str:
    return f"audit.{service}"


def compliance(cluster: str, of: str) -> str:
    """What is kept of a cluster's compliance: `sums`, or `workloads`."""
    return f"compliance.{cluster}.{of}"


def operation_key(operation: str, cluster: str | None = None) -> str:
    """Key in `ops`: of the request, or of its part for one cluster."""
    return token(operation) if cluster is None else f"{token(operation)}.{cluster}"


def registered_credential(cluster: str) -> str:
    """Key in `credentials` of a registered cluster's own kubeconfig."""
    return f"cluster.{cluster}"


def watching_credential(cluster: str) -> str:
    """The same of the kubeconfig that topology watches it by."""
    return f"watch.{cluster}"


def operation_credential(operation: str, cluster: str) -> str:
    """Key in `credentials` of the kubeconfig that came with an operation."""
    return f"operation.{token(operation)}.{cluster}"
