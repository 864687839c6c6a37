"""Questions of browsers to the service API, which this service asks on their behalf.

Only questions that change nothing, each by its name: what a browser may have asked is a list here
and a right on NATS. Many browsers ask the same, and ask again when something happened; so an answer
holds for a moment, and a question that is under way is not asked twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.chassis.errors import MalformedRequest, shortened
from services.chassis.reading.jsons import read_json

ANSWERED = frozenset(
    {
        "gateway.clusters",
        "gateway.events",
        "gateway.operations",
        "lifecycle.multicluster",
        "lifecycle.rollout",
        "perf.baselines",
        "perf.compare",
        "perf.results",
        "perf.status",
    }
)
"""`<service>.<verb>`; whoever reaches the page may ask them."""
_HOLDS_S = 1.0
_MOST_HELD = 256
_LONGEST = 4_000

Ask = Callable[[str, str, dict[str, Any]], Awaitable[Any]]
"""Service, verb, question."""
Tell = Callable[[], Awaitable[Any]]


@dataclass(slots=True)
class Questions:
    """Asks, and holds what was answered for a moment."""

    ask: Ask
    own: Mapping[str, Tell] = field(default_factory=dict)
    """Questions that this process answers itself, by their names."""
    _held: dict[tuple[str, bytes], tuple[float, asyncio.Future[bytes]]] = field(
        default_factory=dict
    )

    async def answer(self, name: str, text: str) -> bytes:
        """The answer as JSON; raises what the service answered with."""
        known = ANSWERED | self.own.keys()
        if name not in known:
            raise MalformedRequest(
                f"{shortened(name)!r} is not asked for a browser",
                remedy=f"ask one of {', '.join(sorted(known))}, or use `nats req`",
            )
        question = _question(text)
        key = (name, orjson.dumps(question, option=orjson.OPT_SORT_KEYS))
        now = asyncio.get_running_loop().time()
        self._forget(now)
        held = self._held.get(key)
        if held is None:
            asking = asyncio.ensure_future(self._asked(name, question))
            held = self._held[key] = (now, asking)
        # Whoever leaves does not end it for the others.
        return await asyncio.shield(held[1])

    async def _asked(self, name: str, question: dict[str, Any]) -> bytes:
        if name in self.own:
            return orjson.dumps(await self.own[name]())
        service, _, verb = name.partition(".")
        return orjson.dumps(await self.ask(service, verb, question))

    def _forget(self, now: float) -> None:
        for key, (since, asking) in list(self._held.items()):
            is_old = now - since > _HOLDS_S or len(self._held) > _MOST_HELD
            if asking.done() and (is_old or asking.cancelled() or asking.exception() is not None):
                del self._held[key]


def _question(text: str) -> dict[str, Any]:
    if len(text) > _LONGEST:
        raise MalformedRequest(f"the question is longer than {_LONGEST} characters")
    if not text:
        return {}
    try:
        question = read_json(text.encode())
    except ValueError:
        question = None
    if not isinstance(question, dict):
        raise MalformedRequest("the question is not a JSON object")
    return question
