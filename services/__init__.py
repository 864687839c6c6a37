"""Meshbus: one package per service, and the chassis that all of them stand on."""

import gc
import sys

if sys.argv[:1] == ["-m"]:
    # A service is being started. What its imports make stays, and Python's garbage collector would
    # walk through it again and again: a tenth of the start. `chassis/memory.py` sets it after that.
    gc.set_threshold(100_000)

# structlog imports rich where it is installed, to draw tracebacks: a tenth of a service's start and
# some megabytes, and what services write is JSON.
if "rich" not in sys.modules and "structlog" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog  # noqa: F401

    del sys.modules["rich"]
