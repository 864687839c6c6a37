"""HTTP on both sides: what we read of others' answers, and what we let others ask."""

import ssl
import sys

# aiohttp reads the machine's certificates twice when it is imported, a tenth of a service's start.
# Its own contexts stay empty here and so trust nobody; `answers.session` brings one that reads
# them when the first client needs it.
if "aiohttp" not in sys.modules:
    ssl.SSLContext.set_default_verify_paths = lambda _self: None  # type: ignore[assignment]
    try:
        import aiohttp  # noqa: F401
    finally:
        del ssl.SSLContext.set_default_verify_paths
