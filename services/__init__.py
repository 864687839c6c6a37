"""Meshbus: one package per service, and the chassis that all of them stand on."""

import sys

# structlog imports rich where it is installed, to draw tracebacks: a tenth of a service's start and
# some megabytes, and what services write is JSON.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
