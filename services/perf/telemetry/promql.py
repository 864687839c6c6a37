"""PromQL as text: how much counters grew in a run's window, exactly and for all targets at once.

`increase()` was rejected as the rule. It extrapolates to the window's borders, it loses the first
sample of a series that the run itself brought to life, and it needs two samples inside the window.
The text here takes the difference of the values at both borders instead, series by series:

* a series that was there before counts its last value less the one before the window;
* one that began inside the window, at a target that was scraped before, counts from zero;
* one of a target that came in the window counts from its first sample: what it had counted before
  is not known to be of the run;
* one whose counter was set back inside the window is left to `increase()`, which mends that.

Prometheus adds the series up, so an answer has one sample for each group and not for each pod.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

SUM = "sum"
"""In the place of a bucket's bound: the sum of the observed values."""


@dataclass(frozen=True, slots=True)
class Window:
    """When a run took place; queries are evaluated at its end."""

    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()

    @property
    def text(self) -> str:
        """As a PromQL duration."""
        return f"{max(1, round(self.seconds * 1000))}ms"


def grown(selector: str, *, window: Window, by: Sequence[str]) -> str:
    """How much the selected counters of one metric grew, added up by labels; no zeros."""
    return f"{_growth(selector, window=window, by=by)} > 0"


def histogram(metric: str, *, window: Window, by: Sequence[str], matchers: str = "") -> str:
    """Growth of a histogram's buckets and, with `le="sum"`, of its sum, in one answer.

    Empty buckets stay, because they bound the others; histograms that did not grow go.
    """
    labels = f"{{{matchers}}}" if matchers else ""
    buckets = _growth(f"{metric}_bucket{labels}", window=window, by=(*by, "le"))
    count = grown(f"{metric}_count{labels}", window=window, by=by)
    total = grown(f"{metric}_sum{labels}", window=window, by=by)
    return (
        f"({buckets} and on ({', '.join(by)}) {count})"
        f' or label_replace({total}, "le", "{SUM}", "", "")'
    )


def _growth(selector: str, *, window: Window, by: Sequence[str]) -> str:
    within = f"{selector}[{window.text}]"
    before = f"{selector} offset {window.text}"
    steady = f"min_over_time({within}) >= {before}"
    return (
        f"sum by ({', '.join(by)}) ("
        f"((last_over_time({within}) - {before}) and ({steady}) unless resets({within}) > 0)"
        f" or (increase({within}) and resets({within}) > 0)"
        f" or (last_over_time({within}) and on (job, instance) (up offset {window.text}))"
        f" or (last_over_time({within}) - min_over_time({within}))"
        ")"
    )


def named(queries: Iterable[tuple[str, str]], *, label: str) -> str:
    """Several queries in one: the first text of each pair tells their samples apart."""
    return " or ".join(
        f'label_replace({query}, "{label}", {quoted(name)}, "", "")' for name, query in queries
    )


def any_of(values: Iterable[str]) -> str:
    """Matches exactly these values, as the quoted operand of `=~`."""
    return quoted("|".join(re.escape(value) for value in sorted(set(values))))


def quoted(text: str) -> str:
    """A PromQL string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
