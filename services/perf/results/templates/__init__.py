"""HTML pages. Every value is escaped, but for pictures that are marked as safe."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

_TEMPLATES = Environment(
    loader=PackageLoader(__name__, "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def template(name: str) -> Template:
    return _TEMPLATES.get_template(name)
