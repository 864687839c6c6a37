"""Meshbus: one package per service, and the chassis that all of them stand on."""

import sys

# structlog imports rich where it is installed, to draw tracebacks: a tenth of a service's start and
# some megabytes, and what services write is JSON.
if "rich" not in sys.modules and "structlog" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog  # noqa: F401

    del sys.modules["rich"]
