"""The operations that perf offers, by the names, categories and texts that Meshery shows."""

from __future__ import annotations

from services.chassis.messages import AdvertisedOperation, Category, SlotKind
from services.perf.operations.gate import PerformanceGate
from services.perf.operations.loadtest import PerformanceTest
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


def offered(test: PerformanceTest, gate: PerformanceGate) -> dict[str, Operation]:
    """Operation by name."""
    operations = [
        Operation(TEST, test.run, lambda _command: "running the performance test"),
        Operation(GATE, gate.run, lambda _command: "gating the change"),
    ]
    return {operation.advertised.name: operation for operation in operations}
