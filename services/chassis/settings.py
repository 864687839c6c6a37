"""Settings from the environment: `MESHBUS_…` for all services, `MESHBUS_<SERVICE>_…` for one.

A variable that nobody knows is an error: a typo in a setting must not turn into a silent default.
"""

from __future__ import annotations

import difflib
import os
import pkgutil
import re
import socket
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from services.chassis.addresses import AddressPolicy, Network, networks
from services.chassis.http.answers import ANSWER_BYTES, LINE_BYTES, LIST_BYTES, RATIO, Bounds

PREFIX = "MESHBUS_"
_CHASSIS = Path(__file__).resolve().parent

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?\Z")


def _read_duration(value: object) -> object:
    found = _DURATION.match(value.strip()) if isinstance(value, str) else None
    if found is None:
        return value
    return timedelta(seconds=float(found[1]) * _UNITS[found[2] or "s"])


Duration = Annotated[timedelta, BeforeValidator(_read_duration)]
"""A length of time: `30` (seconds), `500ms`, `2m`, `1h`, or ISO 8601."""


def _read_ranges(value: object) -> object:
    if not isinstance(value, str):
        return value
    return networks(part.strip() for part in value.split(",") if part.strip())


Ranges = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_read_ranges)]
"""Ranges of IP addresses such as `10.0.0.0/8,fd00::/8`."""


class SettingsError(Exception):
    """The environment does not make a valid configuration; the message says which variable."""


class ChassisSettings(BaseSettings):
    """Settings that every service has. Each field is the variable `MESHBUS_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    nats_url: str = "nats://127.0.0.1:4222"
    """Address of the NATS server; several are separated by commas."""
    nats_seed: SecretStr | None = None
    """NKey seed of this service's NATS user."""
    nats_ca: Path | None = None
    """File of the authority that signs NATS' certificate. With it nothing is said to a server
    without TLS, whatever it claims."""
    nats_certificate: Path | None = None
    """File of the certificate that this service shows to a NATS server that asks for one."""
    nats_key: Path | None = None
    """File of its private key."""
    sealing_public_keys: str | None = None
    """Base64 of the keys to which kubeconfigs and commands are sealed, one for each receiver:
    `lifecycle=KEY,translator=KEY,perf=KEY,topology=KEY`; the same list for all services."""
    sealing_private_key: SecretStr | None = None
    """Base64 of the key that opens what was sealed to this service; several while it is being
    changed, newest first, separated by commas. The gateway has none."""
    signing_key: SecretStr | None = None
    """Base64 of the seed with which the gateway signs what it was asked for; needed by the
    gateway alone."""
    signing_public_keys: str | None = None
    """Base64 of the keys by which lifecycle knows the gateway's signature, separated by commas:
    two while the key is being changed. Needed by lifecycle."""
    instance: str = Field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
    """Name of this process in logs, leases and operation records."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""
    log_format: Literal["json", "console"] = "json"
    """One JSON object a line, or lines for people."""
    otlp_endpoint: str | None = None
    """OTLP/HTTP endpoint, for example http://127.0.0.1:4318; traces are off without it."""
    http_host: str = "127.0.0.1"
    """Interface of health, metrics and pages."""
    http_hosts: str = ""
    """Names under which health, metrics and pages are asked for, separated by commas, besides
    localhost, this machine's own name and every IP address; requests to other names are refused,
    since a foreign site may give its name this machine's address."""
    http_port: int | None = Field(default=None, ge=1, le=65535)
    """Port of health, metrics and pages; each service has a default of its own."""
    port_offset: int = Field(default=0, ge=0, le=50000)
    """Added to every default port, so that several copies run on one machine."""
    region: str = ""
    """Of a lifecycle or perf worker: the region whose commands it takes, and no others
    (docs/how-to/regions.md). Without one it takes those of all clusters that have none."""
    policy: Path | None = None
    """YAML file that says what each identity may do (docs/how-to/identities.md), the same for all
    services; read again when it changes. Without it whoever gets in may do everything."""
    ack_wait: Duration = timedelta(seconds=30)
    """How long a silent worker keeps a command before another one gets it."""
    drain_grace: Duration = timedelta(seconds=20)
    """How long running work may go on after SIGTERM."""
    loop: Literal["uvloop", "asyncio"] = "uvloop"
    """Event loop."""
    read_nodes: int = Field(default=200_000, ge=1000)
    """Keys, scalars, lists and mappings that one text from outside may hold. A thousand objects
    have some 30 000, like Istio's own definitions; the whole budget takes half a second of the
    processor as YAML, where a number counts twice when it is there for the first time."""
    read_depth: int = Field(default=100, ge=16, le=400)
    """How deep they may be nested."""
    read_inflated_bytes: int = Field(default=32 * 1024 * 1024, ge=1024 * 1024)
    """Largest body of a message, when it is not compressed any more."""
    insecure_kubeconfigs: bool = False
    """Accepts kubeconfigs with insecure-skip-tls-verify."""
    addresses_denied: Ranges = ()
    """Ranges, separated by commas, that nothing here connects to (clusters, Prometheus, targets of
    tests), besides link-local, metadata, unspecified, multicast and reserved addresses. In a
    cluster: `127.0.0.0/8,::1/128`, since no API server is on a pod's own loopback."""
    addresses_allowed: Ranges = ()
    """Ranges that are connected to although they are denied, such as an API server that has a
    link-local address."""
    answer_bytes: int = Field(default=ANSWER_BYTES, ge=1024 * 1024, le=1024**3)
    """How much of one answer of an API server is read, unpacked. A list that is longer is asked for
    in smaller pages."""
    watch_line_bytes: int = Field(default=LINE_BYTES, ge=64 * 1024, le=64 * 1024 * 1024)
    """The longest line of a watch. It is one object, and etcd takes none above 1.5 MiB."""
    list_bytes: int = Field(default=LIST_BYTES, ge=16 * 1024 * 1024)
    """How much of one list is read, over all its pages: a server may name a next page for ever."""
    answer_ratio: int = Field(default=RATIO, ge=10, le=2000)
    """How many times longer an answer may be unpacked, above 8 MiB: lists of Kubernetes shrink to a
    tenth or a sixtieth, what is made to fill memory to a thousandth."""

    @property
    def lease_ttl(self) -> timedelta:
        """A lease outlives one missed redelivery, so that a slow takeover finds it still held."""
        return self.ack_wait * 2

    @property
    def http_names(self) -> list[str]:
        """`http_hosts`, one by one."""
        return [part.strip() for part in self.http_hosts.split(",") if part.strip()]

    @property
    def address_policy(self) -> AddressPolicy:
        """Where clients of this process may connect to."""
        return AddressPolicy(denied=self.addresses_denied, allowed=self.addresses_allowed)

    @property
    def answer_bounds(self) -> Bounds:
        """How much they read of an answer."""
        return Bounds(
            answer_bytes=self.answer_bytes,
            line_bytes=self.watch_line_bytes,
            list_bytes=self.list_bytes,
            ratio=self.answer_ratio,
        )


S = TypeVar("S", bound=BaseSettings)


def load(settings_type: type[S], *, service: str) -> tuple[ChassisSettings, S]:
    """Both settings objects of `service` from the environment; raises `SettingsError`."""
    refuse_unknown(os.environ, settings_type=settings_type, service=service)
    return _read(ChassisSettings), _read(settings_type)


def _read(settings_type: type[S]) -> S:
    try:
        return settings_type()
    except ValidationError as error:
        prefix = str(settings_type.model_config.get("env_prefix", ""))
        raise SettingsError(_explained(error, prefix)) from None


def refuse_unknown(
    environment: Mapping[str, str], *, settings_type: type[BaseSettings], service: str
) -> None:
    """Raises `SettingsError` when a `MESHBUS_` variable is neither ours nor another service's."""
    own = f"{PREFIX}{service.upper()}_"
    known = {PREFIX + name.upper() for name in ChassisSettings.model_fields}
    known |= {own + name.upper() for name in settings_type.model_fields}
    others = tuple(f"{PREFIX}{name.upper()}_" for name in services() if name != service)
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name.startswith(others) or name in known:
            continue
        # Without the prefix that all share: it would make everything alike.
        short = {name.removeprefix(PREFIX): name for name in known}
        near = difflib.get_close_matches(name.removeprefix(PREFIX), short, n=1)
        hint = f"; did you mean {short[near[0]]}?" if near else ""
        raise SettingsError(f"unknown setting {name}{hint}")


def services() -> list[str]:
    """The services that stand on this chassis: the packages beside it."""
    found = (module.name for module in pkgutil.iter_modules([str(_CHASSIS.parent)]))
    return sorted(name for name in found if name != _CHASSIS.name)


def _explained(error: ValidationError, prefix: str) -> str:
    """One line per variable, without the values: some of them are secrets."""
    lines = [
        f"{prefix}{'.'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
        for problem in error.errors(include_input=False, include_url=False)
    ]
    return "settings cannot be used: " + "; ".join(lines)
