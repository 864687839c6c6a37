"""Keeps processes running: one that ends is told, and started again with back-off."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from deploy.local.processes import Process

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STEADY_AFTER_S = 60.0
"""Having run for so long, a process that ends begins with the first pause again."""
_READY_EVERY_S = 0.25


@dataclass(slots=True, kw_only=True)
class Supervised:
    """One process, how it is started again, and when it counts as back."""

    process: Process
    start: Callable[[], None]
    is_ready: Callable[[], bool]
    _since: float = field(default_factory=time.monotonic)
    _pause_s: float = 0.0
    _again_at: float | None = None
    _returning: bool = False

    @property
    def name(self) -> str:
        return self.process.name

    @property
    def descriptor(self) -> int | None:
        """A pidfd, readable once the process has ended; None while it does not run."""
        if self._again_at is not None:
            return None
        try:
            return os.pidfd_open(self.process.pid)
        except ProcessLookupError:
            return None

    def look(self, now: float, say: Callable[[str], None]) -> float:
        """Tells an end, starts what is due, tells a return; seconds until there is more to do."""
        if self._again_at is not None:
            return self._wait_or_start(now)
        if not self.process.is_running:
            if now - self._since > STEADY_AFTER_S:
                self._pause_s = 0.0
            self._pause_s = min(max(self._pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            self._again_at, self._returning = now + self._pause_s, True
            how = _ended(self.process.popen.returncode)
            say(
                f"{self.name} {how}; it is started again in {self._pause_s:g} s "
                f"(log: {self.process.log})"
            )
            return self._pause_s
        if self._returning:
            if not self._answers():
                return _READY_EVERY_S
            self._returning = False
            say(f"{self.name} is ready again")
        return LONGEST_PAUSE_S

    def _wait_or_start(self, now: float) -> float:
        assert self._again_at is not None
        if now < self._again_at:
            return self._again_at - now
        self.start()
        self._since, self._again_at = now, None
        return _READY_EVERY_S

    def _answers(self) -> bool:
        try:
            return self.is_ready()
        except OSError:
            return False


def supervise(children: Sequence[Supervised], *, stop: int, say: Callable[[str], None]) -> None:
    """Returns once the descriptor `stop` has something to read."""
    while True:
        now = time.monotonic()
        due = min(child.look(now, say) for child in children)
        descriptors = [fd for child in children if (fd := child.descriptor) is not None]
        try:
            if stop in select.select([stop, *descriptors], [], [], due)[0]:
                return
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _ended(status: int) -> str:
    return f"was killed (signal {-status})" if status < 0 else f"ended with status {status}"
