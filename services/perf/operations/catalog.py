"""The operations that perf offers, by the names, categories and texts that Meshery shows."""

from __future__ import annotations

from services.chassis.messages import AdvertisedOperation, Category, SlotKind
from services.perf.operations.gating import Gates
from services.perf.operations.trials import Trials
from services.perf.runs.work import Operation

MAY_TAKE_S = 3 * 86_400.0
"""The longest test is a day; a lost worker may have it run twice, and a gate runs it twice."""
TEST = AdvertisedOperation(
    name="performance-test",
    description="Performance test (SMP)",
    category=Category.VALIDATE,
    slot=SlotKind.APPLY,
    may_take_s=MAY_TAKE_S,
)
GATE = AdvertisedOperation(
    name="performance-gate",
    description="Performance gate around a configuration change",
    category=Category.VALIDATE,
    slot=SlotKind.APPLY,
    may_take_s=MAY_TAKE_S,
)


def offered(*, trials: Trials, gates: Gates) -> dict[str, Operation]:
    """Operation by name."""
    operations = [
        Operation(TEST, trials.run, lambda _command: "running the performance test"),
        Operation(GATE, gates.run, lambda _command: "gating the change"),
    ]
    return {operation.advertised.name: operation for operation in operations}
