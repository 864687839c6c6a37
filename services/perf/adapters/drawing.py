"""Draws pages and pictures of runs, in a process of its own.

The plotting library costs more memory than all the rest of a worker, and its work would delay the
reading of generators. `drawn` starts `python -m services.perf.adapters.drawing`, which takes a
`Drawing` on standard input; only that process loads the library.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Literal

from services.chassis.errors import InternalError
from services.chassis.messages.models import Piece
from services.perf.comparison.comparing import Comparison
from services.perf.measurements.measurements import Measurement

_WITHIN_S = 30.0

Form = Literal["html", "png"]


class Drawing(Piece):
    """What is to be drawn."""

    form: Form
    measurement: Measurement
    comparison: Comparison | None = None
    """With an earlier run; a page shows it."""


async def drawn(
    measurement: Measurement, form: Form, comparison: Comparison | None = None
) -> bytes:
    """The page (`html`) or picture (`png`) of a measurement."""
    drawing = Drawing(form=form, measurement=measurement, comparison=comparison)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MESHBUS_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        # What asks the worker to stop is not meant for what it draws.
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(_WITHIN_S):
            output, _ = await process.communicate(drawing.model_dump_json().encode())
    except (TimeoutError, asyncio.CancelledError):
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise InternalError(f"the {form} of run {measurement.run} could not be drawn")
    return output


def main() -> None:
    """Reads a drawing and writes the page or picture."""
    from services.perf.results.charts import png
    from services.perf.results.pages import html

    drawing = Drawing.model_validate_json(sys.stdin.buffer.read())
    if drawing.form == "png":
        sys.stdout.buffer.write(png(drawing.measurement))
    else:
        sys.stdout.buffer.write(html(drawing.measurement, comparison=drawing.comparison).encode())


if __name__ == "__main__":
    main()
