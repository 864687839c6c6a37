"""`python -m services.perf.results.drawing FORM`: pages and pictures, in a process of their own.

The plotting library costs more memory than all the rest of a worker, and its work would delay the
reading of generators. FORM is `html` or `png`; a `Drawing` comes on standard input.
"""

from __future__ import annotations

import sys

from services.chassis.messages.models import Piece
from services.perf.comparison.comparing import Comparison
from services.perf.measurements.measurements import Measurement
from services.perf.results.charts import png
from services.perf.results.pages import html


class Drawing(Piece):
    """What is to be drawn."""

    measurement: Measurement
    comparison: Comparison | None = None
    """With an earlier run; a page shows it."""


def main() -> int:
    """The process's exit status."""
    drawing = Drawing.model_validate_json(sys.stdin.buffer.read())
    if sys.argv[1] == "png":
        drawn = png(drawing.measurement)
    else:
        found = drawing.comparison
        comparison = found.model_dump(mode="json") if found else None
        drawn = html(drawing.measurement, comparison=comparison).encode()
    sys.stdout.buffer.write(drawn)
    return 0


if __name__ == "__main__":
    sys.exit(main())
