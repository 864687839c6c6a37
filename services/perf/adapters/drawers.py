"""Starts the drawing process for a page or a picture."""

from __future__ import annotations

import asyncio
import os
import sys

import orjson

from services.chassis.errors import InternalError
from services.perf.comparison.comparing import Comparison
from services.perf.measurements.measurements import Measurement

_WITHIN_S = 30.0


async def drawn(measurement: Measurement, form: str, comparison: Comparison | None = None) -> bytes:
    """The page (`html`) or picture (`png`) of a measurement."""
    drawing = {
        "measurement": measurement.model_dump(mode="json"),
        "comparison": comparison.model_dump(mode="json") if comparison else None,
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MESHBUS_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.perf.results.drawing",
        form,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
    )
    try:
        async with asyncio.timeout(_WITHIN_S):
            output, _ = await process.communicate(orjson.dumps(drawing))
    except (TimeoutError, asyncio.CancelledError):
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise InternalError(f"the {form} of run {measurement.run} could not be drawn")
    return output
