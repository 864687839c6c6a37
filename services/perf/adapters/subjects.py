"""Names on the bus that only perf workers use among themselves."""

from __future__ import annotations

from services.chassis.bus.subjects import in_region, token

ROLL_CALL = "ctl.perf.roll"
"""Asks all perf workers how many shards they could take."""


def shard_command(*, run: str, shard: str, region: str = "") -> str:
    """One worker's part of a performance run; `shard` is a token already."""
    return in_region(f"cmd.perf.{token(run)}.{shard}", region)


def control(verb: str, *, run: str) -> str:
    """Messages between the workers of a run while it runs; not stored."""
    return f"ctl.perf.{token(run)}.{verb}"
