"""Faults inside a Python process of the bed, without a line of them in the product.

Python imports a module of this name at its start. A process that finds this folder on its
PYTHONPATH and is told so by its environment has two more properties:

* SIGUSR1 blocks its main thread, and so its event loop, for `BED_BLOCK_S` seconds, as a careless
  call would. Other threads, and what the kernel does for it, go on: SIGSTOP would stop those too.
* Its wall clock is off by the seconds in the file `BED_CLOCK`, which may change at any time. The
  monotonic clock is the kernel's: no jump of the time of day moves it.
"""

from __future__ import annotations

import ctypes
import datetime
import gc
import os
import signal
import time
from pathlib import Path
from typing import Any

_now, _time = datetime.datetime.now, time.time


def _install_block(seconds: float) -> None:
    signal.signal(signal.SIGUSR1, lambda *_: time.sleep(seconds))


def _install_clock(file: Path) -> None:
    def offset_s() -> float:
        try:
            return float(file.read_text() or 0)
        except OSError:
            return 0.0

    def now(kind: type[datetime.datetime], tz: datetime.tzinfo | None = None) -> Any:
        return _now(tz) + datetime.timedelta(seconds=offset_s())

    time.time = lambda: _time() + offset_s()
    # A subclass would not do: pydantic and others compare with the type itself, so its own method
    # is exchanged, in the dictionary below the read-only view that Python shows.
    methods = gc.get_referents(datetime.datetime.__dict__)[0]
    methods["now"] = classmethod(now)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))


if "BED_BLOCK_S" in os.environ:
    _install_block(float(os.environ["BED_BLOCK_S"]))
if "BED_CLOCK" in os.environ:
    _install_clock(Path(os.environ["BED_CLOCK"]))
