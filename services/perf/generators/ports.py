"""The port behind which the load generators stand."""

from __future__ import annotations

from typing import Protocol

from services.perf.definitions.loads import Load
from services.perf.measurements.tallies import Tally


class Generator(Protocol):
    """Makes the load of one process and counts what came back.

    `run` fills `tally` while the load runs, so that a report each second can be taken from it;
    `offset_s` is added to every request's time, so that later stages follow the earlier ones. It
    returns when the generator has ended by itself. Cancelled, it ends the process, and everything
    that the process started, before it returns. It raises

    * `GeneratorMissing` when the program is not installed,
    * `LoadTestMalformed` for a load that the generator cannot make,
    * a `TargetError` (unreachable, unknown name, TLS) when not one request was answered,
    * `GeneratorFailed` for any other failure, with what the program's stderr says.
    """

    def check(self, load: Load) -> None:
        """Raises what `run` would raise before it starts anything."""

    async def run(self, load: Load, tally: Tally, *, offset_s: float = 0.0) -> None: ...
