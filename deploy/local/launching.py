"""`make up`: NATS and the five services on this machine, with state that survives their end."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from deploy.local import tokens
from deploy.local.addresses import FILE, Addresses, Ports, host_of
from deploy.local.clusters import Candidate, read_candidate, register, registered, releases
from deploy.local.installations import ROOT, SERVICES, Installation
from deploy.local.keyrings import KeyRing
from deploy.local.probing import fetch
from deploy.local.processes import LaunchError, Process
from deploy.local.servers import NatsServer
from deploy.local.supervising import Supervised, supervise
from deploy.nats.config import Server, render
from deploy.nats.keys import public_keys, seed_file
from deploy.nats.permissions import USERS, User, people
from services.chassis.policy import PolicyMalformed, read_policy
from services.chassis.settings import PREFIX

FOLDER = ROOT / ".run" / "up"
DISTRIBUTIONS = f"{PREFIX}LIFECYCLE_DISTRIBUTIONS"
_OFFSET = f"{PREFIX}PORT_OFFSET"
_OWN = frozenset(
    PREFIX + name
    for name in [
        "NATS_URL",
        "NATS_SEED",
        "NATS_CA",
        "NATS_CERTIFICATE",
        "NATS_KEY",
        "SEALING_PUBLIC_KEYS",
        "SEALING_PRIVATE_KEY",
        "SIGNING_KEY",
        "SIGNING_PUBLIC_KEYS",
        "INSTANCE",
        "HTTP_PORT",
        "GATEWAY_PORT",
        "PORT_OFFSET",
    ]
)
"""What the launcher gives each service itself."""
_DRAIN_S = 30.0
"""Longer than the services' own `MESHBUS_DRAIN_GRACE`, 20 s, after which they end by themselves."""
_SAME_SIGNAL_S = 1.0


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM while things are being started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What is to be started, from the command line and the environment."""

    folder: Path
    clusters: Sequence[Candidate]
    settings: Mapping[str, str]
    """`MESHBUS_…` variables for all services."""
    ports: Ports

    @classmethod
    def of(cls, folder: Path, *, clusters: Sequence[str], environment: Mapping[str, str]) -> Launch:
        """Reads everything that may be wrong before anything is started."""
        offset = environment.get(_OFFSET, "0")
        if not offset.isdecimal() or int(offset) > 50_000:
            raise LaunchError(f"{_OFFSET} is {offset!r}: give a number from 0 to 50000")
        settings = {
            name: value
            for name, value in environment.items()
            if name.startswith(PREFIX) and name not in _OWN
        }
        settings.setdefault(DISTRIBUTIONS, str(folder / "istio"))
        insecure = settings.get(f"{PREFIX}INSECURE_KUBECONFIGS", "").lower() in ("true", "1", "yes")
        candidates = [read_candidate(spec, allow_insecure=insecure) for spec in clusters]
        ports = Ports.moved(int(offset))
        return cls(folder=folder, clusters=candidates, settings=settings, ports=ports)

    def running_at(self, addresses: Addresses) -> Installation:
        """The one that runs in this folder already, whatever ports this call would choose."""
        nats = int(addresses.nats.rpartition(":")[2])
        return replace(self, ports=replace(self.ports, nats=nats)).installation()

    def installation(self) -> Installation:
        """With the keys of an earlier start, or fresh ones."""
        folder = self.folder / "keys"
        users = _users(self.settings)
        ring = KeyRing.kept(folder, [user.name for user in users])
        accepted = {name: public_keys(folder, name, key) for name, key in ring.nkeys.items()}
        nats = NatsServer(
            self.folder / "nats",
            port=self.ports.nats,
            monitoring_port=self.ports.monitoring,
            config=render(accepted, server=Server(store=None), users=users),
        )
        return Installation(
            self.folder / "logs",
            nats=nats,
            keys=ring,
            gateway_port=self.ports.gateway,
            settings={**self.settings, **tokens.settings(folder, self.settings)},
        )


def up(folder: Path, *, clusters: Sequence[str]) -> int:
    """Starts everything, tells where it is, and keeps it running until Ctrl-C or SIGTERM.

    Where Meshbus runs in this folder already, clusters are registered with that one. The folder is
    its owner's alone. Raises `LaunchError` with what is in the way.
    """
    began = time.monotonic()
    os.umask(0o077)
    folder = folder.resolve()
    launch = Launch.of(folder, clusters=clusters, environment=os.environ)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    with alone_in(folder) as is_first:
        if not is_first:
            return _join(launch)
        launch.ports.require_free()
        with Stop() as stop:
            _run(launch, began=began, stop=stop)
    return 0


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


class Stop:
    """Ctrl-C and SIGTERM: they break off the start, end the running, and hurry the end."""

    def __init__(self) -> None:
        self.descriptor, self._write = os.pipe()
        """Readable once somebody has asked while everything ran."""
        self._act: Callable[[], None] = self._break_off
        self._former: dict[signal.Signals, object] = {}

    def __enter__(self) -> Stop:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._former[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)  # type: ignore[arg-type]
        os.close(self.descriptor)
        os.close(self._write)

    def ends_the_running(self) -> None:
        self._act = lambda: _write_one(self._write)

    def hurries(self, installation: Installation) -> None:
        """From now on a signal kills what still drains; make and a terminal may send the first one
        twice, which does not count."""
        since = time.monotonic()

        def kill() -> None:
            if time.monotonic() - since > _SAME_SIGNAL_S:
                installation.kill()

        self._act = kill

    def _heard(self, _number: int, _frame: FrameType | None) -> None:
        self._act()

    def _break_off(self) -> None:
        raise Interrupted


def _write_one(descriptor: int) -> None:
    os.write(descriptor, b"1")


# --- the first one ---


def _run(launch: Launch, *, began: float, stop: Stop) -> None:
    installation = launch.installation()
    try:
        children = _start(launch, installation)
        _register(launch, installation)
        _show(launch, installation)
        seconds = time.monotonic() - began
        say(f"ready after {seconds:.1f} s; Ctrl-C drains and ends everything")
        stop.ends_the_running()
        supervise(children, stop=stop.descriptor, say=say)
    except Interrupted:
        pass
    finally:
        stop.hurries(installation)
        (launch.folder / FILE).unlink(missing_ok=True)
        say("draining; Ctrl-C once more kills what is not done")
        installation.stop(grace_s=_DRAIN_S)
        say(f"ended; the state stays in {launch.folder}")


def _start(launch: Launch, installation: Installation) -> list[Supervised]:
    """NATS, its streams, and the services side by side, all ready."""
    (launch.folder / "istio").mkdir(exist_ok=True)
    say("starting NATS")
    nats = installation.nats
    nats.start()
    installation.apply_streams()
    say(f"starting {', '.join(SERVICES)}")
    children = [Supervised(process=nats.process, start=nats.launch, is_ready=nats.is_healthy)]
    for service in SERVICES:
        process = installation.launch(service, http_port=launch.ports.http[service])
        children.append(_supervised(process, f"{installation.health_url(service)}/readyz"))
    for service in SERVICES:
        installation.wait_ready(service)
    return children


def _supervised(process: Process, url: str) -> Supervised:
    def is_ready() -> bool:
        return fetch(url).startswith(b"ok\n")

    return Supervised(process=process, start=process.start, is_ready=is_ready)


def _register(launch: Launch, installation: Installation) -> None:
    """A cluster that cannot be registered is told, and hinders nobody."""
    for candidate in launch.clusters:
        name = candidate.config.context
        try:
            asyncio.run(
                register(
                    installation.settings("admin"),
                    signing_key=installation.ring.signing_key,
                    candidate=candidate,
                )
            )
            say(f"cluster {name} is registered")
        except LaunchError as error:
            say(f"cluster not registered: {error}")


def _show(launch: Launch, installation: Installation) -> None:
    keys = launch.folder / "keys"
    addresses = Addresses(
        gateway=f"{host_of(launch.settings)}:{launch.ports.gateway}",
        console=f"{installation.health_url('topology')}/",
        nats=installation.nats.url,
        operator_nkey=str(seed_file(keys, "operator")),
        console_token=str(keys / tokens.FILE) if tokens.settings(keys, launch.settings) else "",
        kube=_known(installation),
        monitoring=installation.nats.monitoring_url,
        health={service: installation.health_url(service) for service in SERVICES},
        releases=launch.settings[DISTRIBUTIONS],
        logs=str(installation.folder),
    )
    addresses.write(launch.folder)
    _print(addresses, installation)


def _known(installation: Installation) -> list[dict[str, str]]:
    """All registered clusters, those of earlier starts among them."""
    records = asyncio.run(registered(installation.settings("operator")))
    return [{"name": r.name, "cluster": r.cluster, "server": r.server} for r in records]


def _print(addresses: Addresses, installation: Installation) -> None:
    told = asyncio.run(releases(installation.settings("operator")))
    print(f"\n{addresses.screen(told)}\n", flush=True)


def _users(settings: Mapping[str, str]) -> tuple[User, ...]:
    """The shipped users, and one for each person of the policy, where there is one."""
    file = settings.get(f"{PREFIX}POLICY")
    if not file:
        return USERS
    try:
        policy = read_policy(Path(file).read_bytes())
    except (PolicyMalformed, OSError) as error:
        raise LaunchError(f"{PREFIX}POLICY: {error}") from None
    return (*USERS, *people(policy))


# --- a second one ---


def _join(launch: Launch) -> int:
    """Meshbus runs in this folder: clusters are registered with that one, and it is shown."""
    addresses = Addresses.read(launch.folder)
    if addresses is None:
        say(f"Meshbus is being started or ended in {launch.folder} already: wait a moment")
        return 1
    say(f"Meshbus runs in {launch.folder} already (pid {_holder(launch.folder)}):")
    installation = launch.running_at(addresses)
    if launch.clusters:
        _register(launch, installation)
        addresses = replace(addresses, kube=_known(installation))
        addresses.write(launch.folder)
    _print(addresses, installation)
    return 0


@contextmanager
def alone_in(folder: Path) -> Iterator[bool]:
    """Whether nobody else has started Meshbus in this folder; the lock dies with the process."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield True
    finally:
        os.close(descriptor)


def _holder(folder: Path) -> str:
    return (folder / "lock").read_text() or "?"
