"""Clocks of different machines, compared through the bus.

Workers start together by the conductor's clock. Each one measures how far its own clock is from it
with the exchange in which it asks for the start, as NTP does (RFC 5905 §8): the answer was given
somewhere between sending and receiving, so half of the round trip bounds the error, and the fastest
exchange is the best one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Offset:
    """How far this machine's clock is from another one's. Times are Unix seconds."""

    error_s: float = float("inf")
    """The true offset differs by at most so much."""
    seconds: float = 0.0
    """To be subtracted from the other clock's time to get ours."""

    def measured(self, *, sent: float, told: float, received: float) -> None:
        """One exchange: sent and received by our clock, `told` by the other one."""
        error_s = max(0.0, received - sent) / 2
        if error_s < self.error_s:
            self.error_s = error_s
            self.seconds = told - (sent + received) / 2

    def here(self, told: float) -> float:
        """A time of the other clock by ours."""
        return told - self.seconds
