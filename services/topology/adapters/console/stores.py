"""What NATS holds, for the console: streams, the consumers of commands, and dead letters.

Of a dead letter only the headers are asked for: its body is sealed to the service that it was for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from services.chassis.bus import envelopes
from services.chassis.bus.connection import Bus
from services.chassis.bus.deadletters import ORIGIN, REASON
from services.chassis.bus.reading import OrderedReader, StoredMessage
from services.chassis.bus.streams import call_api
from services.chassis.errors import BusUnavailable

_CONSUMED = ("CMD", "ADV")
_DLQ = "DLQ"
_MOST_LETTERS = 200
_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Stores:
    """Asks the server each time; nothing is kept."""

    bus: Bus

    async def told(self) -> dict[str, Any]:
        """Streams with what they hold, consumers with what waits for them, the newest letters."""
        listed = await self._ask("STREAM.LIST")
        streams = sorted((_stream(one) for one in listed.get("streams") or ()), key=_by_name)
        consumers = [
            _consumer(stream, one)
            for stream in _CONSUMED
            for one in (await self._ask(f"CONSUMER.LIST.{stream}")).get("consumers") or ()
        ]
        held = {stream["name"]: stream for stream in streams}
        letters = await self._letters(held.get(_DLQ, {}))
        return {"streams": streams, "consumers": consumers, "letters": letters}

    async def _ask(self, question: str) -> dict[str, Any]:
        answer = await call_api(self.bus.client, question, {})
        if "error" in answer:
            raise BusUnavailable(f"{question} is not answered")
        return dict(answer)

    async def _letters(self, stream: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The newest first."""
        last = int(stream.get("last") or 0)
        if not stream.get("messages"):
            return []
        start = max(1, last - _MOST_LETTERS + 1)
        reader = OrderedReader(self.bus, _DLQ, "dlq.*", start)
        found: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(_WITHIN_S), aclosing(reader.messages()) as messages:
                async for message in messages:
                    found.append(_letter(message))
                    if message.is_newest:
                        break
        except TimeoutError:
            raise BusUnavailable("the dead letters could not be read in time") from None
        return found[::-1]


def _by_name(stream: Mapping[str, Any]) -> str:
    return str(stream["name"])


def _stream(told: Mapping[str, Any]) -> dict[str, Any]:
    config, state = told["config"], told["state"]
    return {
        "name": config["name"],
        "description": config.get("description", ""),
        "messages": state["messages"],
        "bytes": state["bytes"],
        "most_bytes": max(0, config.get("max_bytes", 0)),
        "last": state["last_seq"],
        "oldest": state["first_ts"] if state["messages"] else "",
        "newest": state["last_ts"] if state["messages"] else "",
        "consumers": state.get("consumer_count", 0),
    }


def _consumer(stream: str, told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "stream": stream,
        "name": told["name"],
        "waiting": told.get("num_pending", 0),
        "in_hand": told.get("num_ack_pending", 0),
        "delivered_again": told.get("num_redelivered", 0),
        "workers": told.get("num_waiting", 0),
    }


def _letter(message: StoredMessage) -> dict[str, Any]:
    headers = message.headers
    verb, _, kind = headers.get(envelopes.KIND, "").partition(" ")
    origin = headers.get(ORIGIN, "").partition(" ")[0]
    code, _, reason = headers.get(REASON, "").partition(" ")
    parts = origin.split(".")
    return {
        "letter": message.sequence,
        "at": message.time.isoformat(timespec="seconds"),
        "service": message.subject.removeprefix("dlq."),
        "subject": origin,
        "cluster": parts[2] if len(parts) > 2 else "",
        "operation": headers.get(envelopes.OPERATION, ""),
        "kind": kind,
        "verb": verb,
        "code": code,
        "reason": reason,
    }
