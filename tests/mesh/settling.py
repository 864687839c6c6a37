"""Asking for operations, and waiting until the proxies have what istiod has made of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from tests.testbed.callers import Answers, Caller
from tests.testbed.meshery import Meshery

_DONE_WITHIN_S = 200.0
_SETTLED_WITHIN_S = 30.0


async def applied(meshery: Meshery, name: str, namespace: str, body: str = "", **more: Any) -> None:
    """Asks for an operation and waits for its success."""
    operation = await meshery.apply(name, namespace=namespace, body=body, **more)
    [final] = await meshery.finals(operation, within_s=_DONE_WITHIN_S)
    assert not final.failed, final.event


def only(*answers: str) -> Callable[[Answers], bool]:
    """Whether all requests were answered by one of these."""

    def holds(found: Answers) -> bool:
        return set(found.counts) <= set(answers)

    return holds


async def settled(
    caller: Caller, url: str, holds: Callable[[Answers], bool], *, count: int = 10, **options: Any
) -> None:
    """Sends requests until they are answered as they should be; fails with the last answers."""
    deadline = time.monotonic() + _SETTLED_WITHIN_S
    while True:
        answers = await asyncio.to_thread(caller.get, url, count=count, **options)
        if holds(answers):
            return
        assert time.monotonic() < deadline, (answers.counts, answers.milliseconds)
