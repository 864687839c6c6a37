"""ServiceEntries without addresses, and two that disagree about a port's protocol."""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.ist.specs import part, parts, text
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import hosts, kinds, tags
from services.topology.cluster.objects import Config

NO_ADDRESSES = Entry(
    code="IST0134",
    name="ServiceEntryAddressesRequired",
    level=Level.WARNING,
    cause="TCP carries no host name, so without addresses the entry takes all traffic to its port.",
    remedy="Set `addresses`, or let Istio allocate them (DNS capture with automatic allocation).",
)
CONFLICT = Entry(
    code="IST0177",
    name="ConflictingServiceEntryProtocol",
    level=Level.WARNING,
    cause="ServiceEntries give the same host and port different protocols; proxies take one of "
    "them, and nothing says which.",
    remedy="Give the port the same protocol in all ServiceEntries of the host.",
)


def _addresses(lens: Lens, config: Config) -> Iterator[Finding]:
    if config.spec.get("addresses") or config.addresses:
        return
    for index, port in parts(config.spec, "ports"):
        if text(port, "protocol").upper() in ("", "TCP") and not _allocates(lens):
            message = f"Port {text(port, 'number')} is TCP, and there are no addresses."
            yield NO_ADDRESSES.on(config.key, message, f"spec.ports[{index}].protocol")


def _allocates(lens: Lens) -> bool:
    """Whether the mesh's proxies are told to find addresses for such entries."""
    settings = part(lens.mesh().config, "defaultConfig", "proxyMetadata")
    return text(settings, "ISTIO_META_DNS_CAPTURE") == "true" and "true" in (
        text(settings, "ISTIO_META_DNS_AUTO_ALLOCATE"),
        text(settings, "PILOT_ENABLE_IP_AUTOALLOCATE"),
    )


def _protocols(lens: Lens, config: Config) -> Iterator[Finding]:
    for name in tags.texts(config.spec, "hosts"):
        tag = tags.host(hosts.expanded(name, config.namespace))
        rivals = [
            other
            for other in lens.tagged(kinds.SERVICE_ENTRY, tag)
            if name in tags.texts(other.spec, "hosts")
        ]
        for index, port in parts(config.spec, "ports"):
            number = port.get("number")
            found = _disagreeing(config, rivals, number)
            if found:
                message = f"Host {name}, port {number} has the protocols: {', '.join(found)}."
                yield CONFLICT.on(config.key, message, f"spec.ports[{index}].protocol")


def _disagreeing(config: Config, rivals: list[Config], number: object) -> list[str]:
    """All protocols that a proxy in one of the entry's namespaces could take for the port, if they
    are several."""
    own = _scopes(config)
    for scope in sorted({scope for rival in rivals for scope in _scopes(rival)}):
        if not own & {scope, hosts.EVERYWHERE}:
            continue
        protocols = {
            text(port, "protocol").upper()
            for rival in rivals
            if _scopes(rival) & {scope, hosts.EVERYWHERE}
            for _, port in parts(rival.spec, "ports")
            if port.get("number") == number
        }
        if len(protocols) > 1:
            return sorted(protocols)
    return []


def _scopes(config: Config) -> frozenset[str]:
    return hosts.scopes(tags.texts(config.spec, "exportTo"), config.namespace)


_OWN = (kinds.SERVICE_ENTRY,)
ENTRIES = (NO_ADDRESSES, CONFLICT)
RULES = (
    Rule(codes=("IST0134",), kinds=_OWN, check=_addresses),
    Rule(codes=("IST0177",), kinds=_OWN, check=_protocols),
)
