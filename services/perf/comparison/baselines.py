"""Baselines: runs that later ones are compared with, kept by the mesh's configuration.

What a service's latency depends on in the mesh is the configuration objects and the control plane's
version, so a baseline belongs to a fingerprint of these. The fingerprint must not move when nothing
did: what servers and tools write for their own bookkeeping is left out, and so are the order of the
objects and the API version in which they were read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from pydantic import Field

from services.chassis.bus.subjects import hash_token, token
from services.chassis.kube.objects import KubeObject, Ref, annotations_of, labels_of
from services.chassis.messages.models import Message, Piece
from services.perf.measurements.histograms import Histogram
from services.perf.measurements.measurements import Measurement

MOST_RUNS = 5
_MOST_REMEMBERED = 20
_UNKNOWN = "unknown"

_BOOKKEEPING = (
    "kubectl.kubernetes.io/",
    "meta.helm.sh/",
    "helm.sh/",
    "argocd.argoproj.io/",
    "kustomize.toolkit.fluxcd.io/",
    "helm.toolkit.fluxcd.io/",
    "app.kubernetes.io/managed-by",
    "meshbus.io/",
    # When istiod saw a WorkloadEntry's proxy last, and which istiod it was.
    "istio.io/connectedAt",
    "istio.io/disconnectedAt",
    "istio.io/workloadController",
)
"""Beginnings of labels and annotations by which tools remember something. All others stay: Istio
selects WorkloadEntries by any label, and copies a Gateway's to the workload that it makes."""


class Replacement(Piece):
    """One time that a baseline began anew because somebody asked for it."""

    run: str
    """The run that it began anew with."""
    by: str
    """Who asked, as the gateway knows them."""
    at: datetime
    runs: list[str]
    """What it had kept until then."""


class BaselineRecord(Message):
    """The record of a baseline; its runs are objects of their own."""

    name: str
    service: str
    fingerprint: str
    """Of the mesh's configuration; empty when it was not known."""
    runs: list[str] = Field(max_length=MOST_RUNS)
    """Their ids, newest last."""
    stored: datetime
    """When the newest of them ended."""
    figures: dict[str, float] = Field(default_factory=dict)
    """Of the newest run, for lists."""
    replaced: list[Replacement] = Field(default_factory=list)
    """How it began anew, newest last."""


def fingerprint(objects: Sequence[KubeObject], versions: Sequence[str]) -> str:
    """16 characters for the configuration `objects` of a mesh that runs these versions."""
    parts = {*_forms(objects).items()}
    lines = [
        b"\x00".join(part) for part in sorted((str(ref).encode(), form) for ref, form in parts)
    ]
    return hash_token(b"\n".join([orjson.dumps(sorted({*versions})), *lines]))


def baseline_key(name: str, service: str, fingerprint: str) -> str:
    """Key of a baseline's record in its bucket."""
    return ".".join(token(part) for part in (name, service, fingerprint or _UNKNOWN))


def extended(
    record: BaselineRecord | None, *, name: str, measurement: Measurement
) -> BaselineRecord:
    """`record` with one more run, which was judged to be like the others.

    A baseline takes five runs and then stays as it is. If each new run pushed the oldest one out, a
    service that gets a little slower with every release would never differ from its baseline. For
    the same reason a new configuration of the mesh takes the runs of `record` over.
    """
    runs = [run for run in (record.runs if record else []) if run != measurement.run]
    if record is not None and len(runs) >= MOST_RUNS:
        return record
    return BaselineRecord(
        name=name,
        service=measurement.service,
        fingerprint=measurement.fingerprint,
        runs=[*runs, measurement.run],
        stored=_ended(measurement),
        figures=_figures(measurement),
        replaced=record.replaced if record else [],
    )


def renewed(
    record: BaselineRecord | None, *, name: str, measurement: Measurement, by: str
) -> BaselineRecord:
    """A baseline of this run alone, which remembers what it replaces and who asked for that."""
    begun = extended(None, name=name, measurement=measurement)
    if record is None:
        return begun
    replacement = Replacement(
        run=measurement.run, by=by, at=_ended(measurement), runs=list(record.runs)
    )
    remembered = [*record.replaced, replacement][-_MOST_REMEMBERED:]
    return begun.model_copy(update={"replaced": remembered})


def _ended(measurement: Measurement) -> datetime:
    return measurement.started + timedelta(seconds=measurement.duration_s)


def _figures(measurement: Measurement) -> dict[str, float]:
    durations = Histogram.of(measurement.tally.durations)
    percentiles = {f"p{p}_ms": durations.percentile_us(p) / 1000 for p in (50, 90, 99)}
    responses = Histogram.of(measurement.tally.responses)
    percentiles |= {f"response_p{p}_ms": responses.percentile_us(p) / 1000 for p in (50, 90, 99)}
    failed = measurement.tally.failed
    return {
        "requests": durations.count,
        "failed_ratio": round(failed / max(1, durations.count), 6),
        "rate": round(measurement.actual_rate, 3),
        "mean_ms": round(durations.mean_us / 1000, 3),
        **percentiles,
    }


def _forms(objects: Iterable[KubeObject]) -> dict[Ref, bytes]:
    """Each object without bookkeeping and in one spelling."""
    return dict(map(_form, objects))


def _form(obj: KubeObject) -> tuple[Ref, bytes]:
    ref = Ref.of(obj)
    kept: dict[str, Any] = {
        name: value
        for name, value in obj.items()
        if name not in ("apiVersion", "kind", "metadata", "status")
    }
    kept["labels"] = dict(_mattering(labels_of(obj)))
    kept["annotations"] = dict(_mattering(annotations_of(obj)))
    text = orjson.dumps(kept, option=orjson.OPT_SORT_KEYS)
    return Ref(ref.group, ref.kind, ref.namespace, ref.name), text


def _mattering(pairs: dict[str, str]) -> Iterator[tuple[str, str]]:
    return ((key, value) for key, value in pairs.items() if not key.startswith(_BOOKKEEPING))
