"""The table of objects: what `istioctl validate` says of each, and where.

One file for each kind, with the specs of objects by what they are:

* `right`: istioctl takes them and so do we;
* `wrong`: both refuse them, we at the place `at`; `wrong before 1.31`: older versions alone do,
  and of what is `wrong by definition` the definition of the kind tells;
* `stricter`: we refuse what istioctl takes, and `why`;
* `noted`: istioctl refuses them and we warn, for Kubernetes takes them and they run.

`a^63` stands for 63 times the letter, and `$metadata` in a spec for fields of the metadata.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from services.chassis.kube.objects import KubeObject
from services.chassis.reading.limits import Budget
from services.chassis.reading.yamls import read_yaml

FOLDER = Path(__file__).parent / "objects"
_REPEATED = re.compile(r"(\w)\^(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One object and what is said of it."""

    kind: str
    verdict: str
    name: str
    obj: KubeObject
    at: str = ""
    why: str = ""

    @property
    def is_refused(self) -> bool:
        """Whether the newest Istio's istioctl refuses it."""
        return self.verdict in ("wrong", "wrong by definition", "noted")

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


@cache
def cases() -> tuple[Case, ...]:
    """All of them, kind by kind."""
    return tuple(case for path in sorted(FOLDER.glob("*.yaml")) for case in _read(path))


def _read(path: Path) -> Iterator[Case]:
    content: Any = read_yaml(path.read_text(), budget=Budget.trusted())
    api_version = content.pop("apiVersion")
    for verdict, named in content.items():
        for name, entry in named.items():
            spec = dict(entry if verdict == "right" else entry["spec"])
            metadata = {"name": "a", "namespace": "shop", **spec.pop("$metadata", {})}
            yield Case(
                kind=path.stem,
                verdict=verdict,
                name=name,
                obj={
                    "apiVersion": api_version,
                    "kind": path.stem,
                    "metadata": _written_out(metadata),
                    "spec": _written_out(spec),
                },
                at="" if verdict == "right" else entry.get("at", ""),
                why="" if verdict == "right" else entry.get("why", ""),
            )


def _written_out(value: Any) -> Any:
    if isinstance(value, str):
        return _REPEATED.sub(lambda found: found[1] * int(found[2]), value)
    if isinstance(value, dict):
        return {_written_out(key): _written_out(part) for key, part in value.items()}
    return [_written_out(part) for part in value] if isinstance(value, list) else value
