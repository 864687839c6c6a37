"""Names as Istio reads them: of hosts, namespaces, ports, labels and headers."""

from __future__ import annotations

import re
from collections.abc import Iterable

from services.translator.validity.parts import Part
from services.translator.validity.values import is_address

_LABEL = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?\Z")
_FIRST_LABEL = re.compile(r"(?:\*|(?:\*-?)?[a-zA-Z0-9](?:[-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?)\Z")
_TAG_NAME = re.compile(r"(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\Z")
_TAG_PREFIX = re.compile(
    r"[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?)*\Z"
)
_HEADER = re.compile(r"[-!#$%&'*+,.^_`|~A-Za-z0-9]+\Z")
_PLAIN_HEADER = re.compile(r"[-_A-Za-z0-9]+\Z")
_PSEUDO_HEADERS = frozenset({":authority", ":method", ":path", ":scheme", ":status"})
_LONGEST_HOST = 255
_LONGEST_LABEL = 63
_LONGEST_PREFIX = 253


def is_label(text: str) -> bool:
    """Whether it is one part of a name in DNS, of any case."""
    return _LABEL.match(text) is not None


def is_host(text: str) -> bool:
    """Whether it is a name in DNS; one dot may stand at its end."""
    if not text or len(text) > _LONGEST_HOST:
        return False
    parts = text.split(".")
    if parts[-1] == "":
        parts.pop()
    return bool(parts) and all(map(is_label, parts)) and not parts[-1].isdigit()


def is_wildcard_host(text: str) -> bool:
    """Whether it is a name in DNS whose first part may be, or begin with, a star."""
    if not text or len(text) > _LONGEST_HOST:
        return False
    first, dot, rest = text.partition(".")
    if not _FIRST_LABEL.match(first) or len(first) > _LONGEST_LABEL:
        return False
    return not dot or not rest or is_host(rest)


def check_host(part: Part, *, wildcard: bool = True) -> None:
    """A name of a host; with a `wildcard`, its first part may be a star."""
    text = part.text
    if not text:
        part.tell("host-empty")
    elif not (is_wildcard_host(text) if wildcard else is_host(text)):
        part.tell("host-malformed", host=text)


def check_host_or_address(part: Part) -> None:
    """A host of a route: a name, or an address of its own."""
    if not is_address(part.text):
        check_host(part)


def check_placed_host(part: Part, *, rule: str, namespaces: frozenset[str]) -> None:
    """`namespace/host`, where the host is a full name; `namespaces` may stand for a namespace."""
    namespace, slash, host = part.text.partition("/")
    if not slash:
        part.tell("placed-host-without-namespace", host=part.text)
        return
    if not namespace or not host:
        part.tell("placed-host-empty", host=part.text)
        return
    if namespace not in namespaces and not is_label(namespace):
        part.tell(rule, namespace=namespace)
    check_full_host(part, host)


def check_full_host(part: Part, host: str) -> None:
    """A host that a client names in full: a star, a name with a dot, perhaps below a star."""
    if host == "*":
        return
    if "." not in host:
        part.tell("host-short", host=host)
    elif host.startswith("*") and not host.startswith("*."):
        part.tell("host-wildcard-part", host=host)
    elif not is_wildcard_host(host):
        part.tell("host-malformed", host=host)


def check_subset(part: Part) -> None:
    """The name of a subset, where one is given."""
    if part.text and not is_label(part.text):
        part.tell("subset-malformed", name=part.text)


def check_port_name(part: Part, name: str) -> None:
    """The name of a port; `part` may be the number behind it."""
    if not is_label(name):
        part.tell("port-name-malformed", name=name or '""')


def check_labels(part: Part) -> None:
    """Labels as Kubernetes takes them."""
    for name, value in part.fields():
        prefix, slash, tail = name.rpartition("/")
        is_sound = len(tail) <= _LONGEST_LABEL and _TAG_NAME.match(tail)
        if slash:
            is_sound = is_sound and len(prefix) <= _LONGEST_PREFIX and _TAG_PREFIX.match(prefix)
        if not is_sound:
            value.tell("label-malformed", name=name)
        if value.text and not _TAG_NAME.match(value.text):
            value.tell("label-value-malformed", value=value.text)


def check_selector(selector: Part, *, field: str = "matchLabels") -> None:
    """Labels by which workloads are chosen: no patterns, and none that is empty."""
    if not selector:
        return
    labels = selector[field]
    if not labels.has_items:
        selector.tell("selector-empty")
    for name, value in labels.fields():
        if not name:
            value.tell("selector-key-empty")
        elif "*" in name or "*" in value.text:
            value.tell("selector-wildcard")


_TARGETS = frozenset(
    {
        ("", "Service"),
        ("core", "Service"),
        ("networking.istio.io", "ServiceEntry"),
        ("gateway.networking.k8s.io", "Gateway"),
        ("gateway.networking.k8s.io", "GatewayClass"),
    }
)


def check_attachment(spec: Part) -> None:
    """What a policy holds for: workloads by labels, or one or more objects, never both."""
    check_selector(spec["selector"])
    forms = ("selector", "targetRef", "targetRefs")
    present = [name for name in forms if spec[name].has_items or (spec[name] and name[-1] != "s")]
    if len(present) > 1:
        spec[present[1]].tell("attached-twice", one=present[0], other=present[1])
    single = spec["targetRef"]
    for target in [*([single] if single else ()), *spec["targetRefs"]]:
        group_kind = (target["group"].text, target["kind"].text)
        if group_kind not in _TARGETS:
            target["kind"].tell("target-kind", kind=group_kind[1] or "nothing")
        if not target["name"].text:
            target["name"].tell("target-unnamed")
        if target["namespace"].text:
            target["namespace"].tell("target-elsewhere")


def check_header(part: Part) -> None:
    """The name of an HTTP header."""
    _check_header(part, part.text, is_sound=_HEADER.match(part.text) is not None)


def check_plain_header(part: Part) -> None:
    """The name of a header, of letters, digits, dashes and underscores."""
    _check_header(part, part.text, is_sound=_PLAIN_HEADER.match(part.text) is not None)


def check_matched_header(part: Part, name: str) -> None:
    """The name of a header, or of what HTTP/2 sends like one; `part` is what stands behind it."""
    is_sound = name in _PSEUDO_HEADERS or _HEADER.match(name) is not None
    _check_header(part, name, is_sound=is_sound)


def _check_header(part: Part, name: str, *, is_sound: bool) -> None:
    if not name:
        part.tell("header-empty")
    elif not is_sound:
        part.tell("header-malformed", name=name)


def check_export(spec: Part, *, namespace: str, to_nobody: bool = False) -> None:
    """`exportTo`: here, everywhere, or namespaces by name; `to_nobody` where `~` can stand."""
    part = spec["exportTo"]
    known: set[str] = set()
    for entry in part:
        name = entry.text
        if name == "~" and not to_nobody:
            entry.tell("export-to-nobody")
        elif name not in ("*", ".", "~") and not is_label(name):
            entry.tell("export-malformed", name=name)
        place = namespace if name == "." and namespace else name
        if place in known:
            entry.tell("export-twice", name=name)
        known.add(place)
    if len(known) > 1 and "*" in known:
        part.tell("export-to-all-and-some")
    if len(known) > 1 and "~" in known and to_nobody:
        part.tell("export-to-nobody-and-some")


def overlapping(hosts: Iterable[Part]) -> Iterable[tuple[Part, str]]:
    """Hosts that an earlier one matches or that match an earlier one, with that earlier one.

    Each host costs as much as it is long, however many there are.
    """
    exact: dict[str, str] = {}
    tails: dict[str, str] = {}
    below: dict[str, str] = {}
    for part in hosts:
        name = part.text
        is_wildcard = name.startswith("*")
        tail = name[1:] if is_wildcard else name
        ends = [tail[start:] for start in range(len(tail) + 1)][: _LONGEST_HOST + 1]
        earlier = next((tails[end] for end in ends if end in tails), "")
        if is_wildcard:
            earlier = earlier or below.get(tail, "")
            tails.setdefault(tail, name)
        else:
            earlier = earlier or exact.get(name, "")
            exact.setdefault(name, name)
        if earlier:
            yield part, earlier
        for end in ends:
            below.setdefault(end, name)
