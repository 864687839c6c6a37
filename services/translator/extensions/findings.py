"""Reports the findings that `findings.yaml` lists."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, TypeAdapter

from services.chassis.reading.limits import Budget
from services.chassis.reading.yamls import read_yaml
from services.translator.reports import Level, Path, Report


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: str
    level: Level
    message: str
    remedy: str = ""


def _read() -> Mapping[str, _Entry]:
    text = files(__package__).joinpath("findings.yaml").read_text()
    return TypeAdapter(dict[str, _Entry]).validate_python(read_yaml(text, budget=Budget.trusted()))


_ENTRIES = _read()


def tell(report: Report, name: str, path: Path, /, **values: str) -> None:
    """Adds the finding called `name` about a place; `values` fill in its texts."""
    entry = _ENTRIES[name]
    add = {Level.ERROR: report.error, Level.WARNING: report.warning, Level.INFO: report.info}
    add[entry.level](
        path,
        entry.message.format_map(values),
        rule=entry.rule,
        remedy=entry.remedy.format_map(values),
    )
