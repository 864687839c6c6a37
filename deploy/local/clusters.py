"""Clusters of whoever runs `make up`: a context of their own kubeconfig, registered with proof.

The kubeconfig is read on the machine of its owner, so files that it names are taken in, as kubectl
does. Programs that it names are not run: who lets Meshbus act in a cluster decides with which
rights, and `make kubeconfig` makes an account with just those.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import yaml

from deploy.local.processes import LaunchError
from services.chassis.bus.connection import connect
from services.chassis.bus.credentials import Sealer
from services.chassis.bus.queries import ask
from services.chassis.bus.records import Bucket
from services.chassis.bus.subjects import operation_credential
from services.chassis.errors import MeshbusError
from services.chassis.granting import Signer
from services.chassis.kube.kubeconfigs import (
    SIZE_LIMIT_BYTES,
    Kubeconfig,
    parse_kubeconfig,
    select_context,
)
from services.chassis.messages import ClusterRecord, Command, FactsQuestion
from services.chassis.reading.yamls import read_yaml
from services.chassis.settings import ChassisSettings

_FILES = {
    "clusters": ("cluster", {"certificate-authority": "certificate-authority-data"}),
    "users": (
        "user",
        {
            "client-certificate": "client-certificate-data",
            "client-key": "client-key-data",
        },
    ),
}
_WITHIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cluster that is to be registered."""

    config: Kubeconfig
    text: str = field(repr=False)
    """The kubeconfig as it is sealed: one context, nothing outside it."""


def read_candidate(spec: str, *, allow_insecure: bool = False) -> Candidate:
    """The cluster of `PATH` or `PATH:CONTEXT`; raises `LaunchError` with cause and remedy."""
    file, context = _split(spec)
    try:
        text = _text_of(file)
        selected = select_context(text, context or _current(text))
        whole = yaml.safe_dump(_with_files(read_yaml(selected), file.parent), sort_keys=False)
        return Candidate(parse_kubeconfig(whole, allow_insecure=allow_insecure), whole)
    except MeshbusError as error:
        raise LaunchError(f"{spec}: {error}") from None
    except OSError as error:
        raise LaunchError(f"{spec}: {error.filename} cannot be read: {error.strerror}") from None


async def register(admin: ChassisSettings, *, signing_key: str, candidate: Candidate) -> None:
    """Has lifecycle reach the cluster by this kubeconfig, which registers it; raises `LaunchError`.

    It goes the way of an operation's kubeconfig: sealed to lifecycle, opened with a signed grant,
    kept only after the cluster has accepted it.
    """
    cluster = candidate.config.cluster
    operation = f"register-{secrets.token_hex(8)}"
    credential = operation_credential(operation, cluster)
    deadline = datetime.now(timezone.utc) + _WITHIN
    asked = Command(
        operation=operation, kind="facts", cluster=cluster, credential=credential, deadline=deadline
    )
    grant = Signer.of(signing_key).signed(asked).grant
    question = FactsQuestion(
        cluster=cluster, operation=operation, credential=credential, grant=grant
    )
    bus = await connect(admin, service="admin")
    try:
        bucket = Bucket(bus, "credentials")
        await Sealer(bucket).put(credential, candidate.text, ttl=_WITHIN * 2)
        try:
            sent = question.model_dump(mode="json")
            await ask(bus, sent, service="lifecycle", verb="facts", within=_WITHIN)
        finally:
            await bucket.delete(credential)
    except MeshbusError as error:
        raise LaunchError(f"{candidate.config.context}: {error}") from None
    finally:
        await bus.close()


async def registered(operator: ChassisSettings) -> list[ClusterRecord]:
    """All registered clusters, as the gateway tells them; raises a `MeshbusError`."""
    answer = await _answer(operator, service="gateway", verb="clusters")
    return [ClusterRecord.model_validate(entry) for entry in answer["clusters"]]


async def releases(operator: ChassisSettings) -> str:
    """Which versions of Istio there are, in words; raises a `MeshbusError`."""
    answer = await _answer(operator, service="lifecycle", verb="versions")
    here, source = ", ".join(answer["versions"]), answer.get("source")
    if source:
        return f"{here or 'none here yet'}; others are fetched from {source} when asked for"
    return here


async def _answer(operator: ChassisSettings, *, service: str, verb: str) -> dict[str, Any]:
    bus = await connect(operator, service="operator")
    try:
        answer: dict[str, Any] = await ask(bus, {}, service=service, verb=verb, within=_WITHIN)
        return answer
    finally:
        await bus.close()


def _split(spec: str) -> tuple[Path, str]:
    """File and context; both may hold colons, so the file decides."""
    ends = [index for index, letter in enumerate(spec) if letter == ":"]
    for end in [len(spec), *reversed(ends)]:
        file = Path(spec[:end]).expanduser()
        if file.is_file():
            return file.resolve(), spec[end + 1 :]
    raise LaunchError(
        f"{spec}: there is no such kubeconfig; give PATH or PATH:CONTEXT, such as "
        "CLUSTER=~/.kube/config:kind-kind"
    )


def _text_of(file: Path) -> str:
    with file.open("rb") as stream:
        return stream.read(SIZE_LIMIT_BYTES + 1).decode(errors="replace")


def _current(text: str) -> str:
    document = read_yaml(text)
    current = document.get("current-context") if isinstance(document, dict) else None
    if not current:
        raise LaunchError("the kubeconfig has no current-context: name one, PATH:CONTEXT")
    return str(current)


def _with_files(document: Any, folder: Path) -> Any:
    """The kubeconfig with the certificates and keys in it that it names as files."""
    for section, (kind, fields) in _FILES.items():
        for entry in document[section]:
            for name, inline in fields.items():
                if path := entry[kind].pop(name, None):
                    content = (folder / str(path)).read_bytes()[:SIZE_LIMIT_BYTES]
                    entry[kind].setdefault(inline, base64.b64encode(content).decode())
    return document
