"""What `istioctl validate` says of many objects in one run."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.chassis.kube.objects import KubeObject
from tests.testbed import building

_LINE = re.compile(r"\s+\* \w+/case-(\d+)/[^:]*: (.*)")
_WARNINGS = "has warnings"


@dataclass(frozen=True, slots=True)
class Answer:
    """The first lines of the errors and of the warnings about one object."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...]


def answers(objects: Sequence[KubeObject], *, version: str, folder: Path) -> list[Answer]:
    """Istioctl's answer on each object, in their order.

    An object is known by its namespace, which each gets for itself.
    """
    texts = [
        json.dumps({**obj, "metadata": {**obj["metadata"], "namespace": f"case-{number}"}})
        for number, obj in enumerate(objects)
    ]
    path = folder / f"{version}.yaml"
    path.write_text("\n---\n".join(texts))
    program = building.distributions_folder() / version / "bin" / "istioctl"
    done = subprocess.run(
        [str(program), "validate", "-f", str(path)], capture_output=True, text=True, check=False
    )
    found: list[tuple[list[str], list[str]]] = [([], []) for _ in objects]
    are_warnings = False
    for line in (*done.stdout.splitlines(), *done.stderr.splitlines()):
        match = _LINE.match(line)
        if match is not None:
            found[int(match[1])][int(are_warnings)].append(match[2])
        elif _WARNINGS in line or line.startswith("Error:"):
            are_warnings = _WARNINGS in line
    return [Answer(tuple(errors), tuple(warnings)) for errors, warnings in found]
