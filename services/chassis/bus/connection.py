"""The connection to NATS, with a watchdog.

nats-py's reader can die silently: `is_connected` stays true and `flush` succeeds while nothing
arrives any more. Only `rtt` tells, so the watchdog asks for it and forces a reconnect. Parked pulls
do not survive a server restart either; `on_reconnect` wakes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import nats
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.chassis.bus.subjects import consumer, is_region
from services.chassis.errors import BusUnavailable
from services.chassis.sealing import Keys
from services.chassis.settings import ChassisSettings, SettingsError

_WATCHDOG_PERIOD = timedelta(seconds=5)
_CLOSE_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 2
# nats-py annotates whole seconds and takes fractions.
_RECONNECT_WAIT_S = 0.25
_PING_INTERVAL_S = 10
_MAC_DIGITS = 24
_STORED, _STATUS = "Nats-Sequence", "Status"

log = structlog.get_logger(__name__)


class _Client(Client):
    """nats-py's client, whose requests and pings can be cancelled.

    On Python 3.11 `asyncio.wait_for`, under each of them, drops a cancellation that comes together
    with the answer: whoever then awaits the cancelled task, such as the keeper of a lease, hangs.
    And the answer to a ping that was cancelled, or came too late, would end nats-py's reader.
    """

    async def request(self, *arguments: Any, **options: Any) -> Msg:
        with _cancellable():
            return await super().request(*arguments, **options)

    async def rtt(self, *arguments: Any, **options: Any) -> float:
        with _cancellable():
            return float(await super().rtt(*arguments, **options))

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and "tls" in self.options and not info.get("tls_required"):
            # nats-py would go on in clear, and prove who we are to whoever answered.
            raise nats.errors.Error(
                "the server does not speak TLS, and MESHBUS_NATS_CA asks for it"
            )
        await super()._process_info(info, initial_connection)

    async def _process_headers(self, headers: Any) -> dict[str, str] | None:
        """The headers of a message, whatever its sender has written there: NATS passes on any
        bytes, and what nats-py cannot read would end its reader, and so the connection."""
        try:
            found: dict[str, str] | None = await super()._process_headers(headers)
        except (ValueError, IndexError):
            found = self._parse_header_lines(bytes(headers))
        if found and _STORED in found:
            # Of a message of a stream the server writes this last. A status is its sender's, who
            # would pass for the server.
            found.pop(_STATUS, None)
        return found

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            # Nobody waits for this answer any more, and nats-py cannot set it twice.
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()


@contextlib.contextmanager
def _cancellable() -> Iterator[None]:
    """Raises the cancellation that came during the block and was dropped in it."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    yield
    if task and task.cancelling() > before:
        raise asyncio.CancelledError


@dataclass(slots=True)
class Bus:
    """One connection, shared by everything in a process."""

    client: Client
    name: str
    keys: Keys = field(default_factory=Keys)
    """What this process seals with and opens with; a person's connection has none."""
    secret: bytes = field(default=b"", repr=False)
    """What only the processes of this user know: its seed. Without one ids can be guessed."""
    watchdog_period: timedelta = _WATCHDOG_PERIOD
    """How often the watchdog asks, and how long it waits for the answer."""
    is_closing: bool = False
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when nats-py has given the connection up for good, as it does for an error that the
    server calls fatal (a subject that is too long). There is no way back but a new process."""
    _wake: list[Callable[[], None]] = field(default_factory=list)
    _watchdog: asyncio.Task[None] | None = None

    def on_reconnect(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Calls `wake` after each reconnect; returns the function that forgets it."""
        self._wake.append(wake)
        return lambda: self._wake.remove(wake)

    @property
    def is_connected(self) -> bool:
        return bool(self.client.is_connected)

    def message_id(self, name: str) -> str:
        """The `Nats-Msg-Id` of what `name` tells apart: the same from all processes of this user.

        A stream drops what comes under an id that it has seen, whoever sent that. So nobody else
        may be able to write it down beforehand.
        """
        if not self.secret:
            return name
        return f"{name}.{hmac.digest(self.secret, name.encode(), 'sha256').hex()[:_MAC_DIGITS]}"

    async def rtt_s(self) -> float:
        """Round trip to the server in seconds; raises `BusUnavailable` when it takes too long."""
        try:
            async with asyncio.timeout(self.watchdog_period.total_seconds()):
                rtt_s: float = await self.client.rtt()
                return rtt_s
        except (TimeoutError, nats.errors.Error, OSError) as error:
            raise BusUnavailable("NATS does not answer a ping") from error

    async def close(self) -> None:
        self.is_closing = True
        if self._watchdog is not None:
            self._watchdog.cancel()
        if not self.client.is_closed:
            try:
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await self.client.drain()
            except (TimeoutError, nats.errors.Error, OSError):
                # What nats-py could not send to a server that is gone, it cannot send now either.
                with contextlib.suppress(nats.errors.Error, OSError):
                    await self.client.close()

    def _woken(self) -> None:
        for wake in list(self._wake):
            wake()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.watchdog_period.total_seconds())
            if self.client.is_connected and not await self._reads():
                log.warning("bus_reader_dead", action="reconnecting")
                await self._force_reconnect()

    async def _reads(self) -> bool:
        """Whether anything comes in: the answer to a ping, or what the server sent before it. Where
        a busy process is behind with its reading, a new connection would add to its work."""
        loop, longest_s = asyncio.get_running_loop(), 2 * self.watchdog_period.total_seconds()
        while True:
            began, read = loop.time(), self.client.stats["in_msgs"]
            with contextlib.suppress(BusUnavailable):
                await self.rtt_s()
                return True
            if self.client.stats["in_msgs"] != read:
                return True
            if loop.time() - began < longest_s:
                return False
            # Something else had the loop meanwhile, so that nobody could read.

    async def _force_reconnect(self) -> None:
        # nats-py reconnects when its transport ends; there is no public call for it.
        await self.client._process_op_err(nats.errors.StaleConnectionError())


def _tls(settings: ChassisSettings) -> ssl.SSLContext | None:
    """None where nothing asks for TLS; raises `SettingsError` for files that cannot be used."""
    if settings.nats_ca is None:
        if settings.nats_certificate is not None:
            raise SettingsError("MESHBUS_NATS_CERTIFICATE needs MESHBUS_NATS_CA")
        return None
    try:
        context = ssl.create_default_context(cafile=str(settings.nats_ca))
        if settings.nats_certificate is not None:
            context.load_cert_chain(settings.nats_certificate, settings.nats_key)
    except OSError as error:
        raise SettingsError(
            f"MESHBUS_NATS_CA, _CERTIFICATE or _KEY cannot be used: {error.strerror or error}"
        ) from None
    return context


def _seed(settings: ChassisSettings) -> str:
    return settings.nats_seed.get_secret_value() if settings.nats_seed else ""


async def connect(
    settings: ChassisSettings, *, service: str, watchdog: timedelta = _WATCHDOG_PERIOD
) -> Bus:
    """Connects and starts the watchdog; waits for a server that is not there yet."""
    if settings.region and not is_region(settings.region):
        raise SettingsError(
            "MESHBUS_REGION is no region: those are lower-case letters, digits and hyphens between "
            "them, such as eu-west-1"
        )
    bus = Bus(
        client=_Client(),
        name=settings.instance,
        keys=Keys.of(settings),
        secret=_seed(settings).encode(),
        watchdog_period=watchdog,
    )

    async def on_error(error: Exception) -> None:
        log.warning("bus_error", error=type(error).__name__, text=str(error)[:200])

    async def on_disconnect() -> None:
        if not bus.is_closing:
            log.warning("bus_disconnected")

    async def on_reconnect() -> None:
        log.info("bus_reconnected")
        bus._woken()

    async def on_close() -> None:
        if not bus.is_closing:
            log.error("bus_closed", action="ending the process")
            bus.lost.set()

    await bus.client.connect(
        servers=[url.strip() for url in settings.nats_url.split(",")],
        name=f"meshbus-{service}-{settings.instance}",
        nkeys_seed_str=_seed(settings) or None,
        inbox_prefix=f"_INBOX_{consumer(service, settings.region)}".encode(),
        tls=_tls(settings),
        allow_reconnect=True,
        max_reconnect_attempts=-1,
        reconnect_time_wait=_RECONNECT_WAIT_S,  # type: ignore[arg-type]
        connect_timeout=_CONNECT_TIMEOUT_S,
        ping_interval=_PING_INTERVAL_S,
        max_outstanding_pings=2,
        error_cb=on_error,
        disconnected_cb=on_disconnect,
        reconnected_cb=on_reconnect,
        closed_cb=on_close,
    )
    bus._watchdog = asyncio.create_task(bus._watch(), name="bus-watchdog")
    return bus
