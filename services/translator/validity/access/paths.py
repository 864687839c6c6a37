"""Paths of an AuthorizationPolicy: texts with a star at one end, or templates with `{*}`."""

from __future__ import annotations

import re

from services.translator.validity.parts import Part

_ONE, _REST = "{*}", "{**}"
_LITERAL = re.compile(r"[A-Za-z0-9\-._~%!$&'()+,;:@=]+\Z")


def check_path(path: Part) -> None:
    """Whether a path with braces is a template that Envoy can match."""
    text = path.text
    if "{" not in text and "}" not in text:
        return
    segments = text.strip("/").split("/")
    for place, segment in enumerate(segments):
        if segment in (_ONE, _REST):
            if _REST in segments[:place]:
                path.tell("template-goes-on", path=text)
                return
        elif "{" in segment or "}" in segment:
            path.tell("template-part", path=text, part=segment)
            return
        elif not _LITERAL.match(segment):
            path.tell("template-literal", path=text, part=segment)
            return
