"""`python -m services.perf.drawing FORM`: a measurement on standard input becomes a page (`html`) or
a picture (`png`).

Drawing is a process of its own: the plotting library costs more memory than all the rest of a
worker, and its work would delay the reading of generators.
"""

from __future__ import annotations

import sys

from services.perf.charts import png
from services.perf.measurements import Measurement
from services.perf.pages import html


def main() -> int:
    """The process's exit status."""
    measurement = Measurement.model_validate_json(sys.stdin.buffer.read())
    form = sys.argv[1]
    drawn = html(measurement).encode() if form == "html" else png(measurement)
    sys.stdout.buffer.write(drawn)
    return 0


if __name__ == "__main__":
    sys.exit(main())
