"""Which objects a proxy's rejection is about, as far as Envoy's words name them.

Envoy knows no object of Istio's. What it names are clusters, whose names hold a host; extensions,
whose names hold an object's; and, in quotes, filters and types that it does not have, which only
an EnvoyFilter that applies to the proxy can have brought in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from services.topology.cluster import kinds, tags
from services.topology.cluster.forms import labels
from services.topology.cluster.objects import Config, Key, Labels
from services.topology.cluster.state import matches
from services.topology.mesh.registry import Reads

_CLUSTER = re.compile(r"\b(?:outbound|inbound)\|\d*\|[^|\s]*\|([\w.*-]+\w)")
_EXTENSION = re.compile(
    r"\bexten(?:st|s)ions\.istio\.io/(wasmplugin|trafficextension)/([a-z0-9-]+)\.([a-z0-9.-]*[a-z0-9])"
)
_EXTENSIONS = {"wasmplugin": kinds.WASM_PLUGIN, "trafficextension": kinds.TRAFFIC_EXTENSION}
_QUOTED = re.compile(r"'([^'\s]{4,200})'")
_OF_TYPES = "type.googleapis.com/"
_MOST = 3


def named_in(
    reads: Reads, error: str, *, namespace: str, pod_labels: Labels, root: str
) -> list[Key]:
    """The first few objects that an error of a proxy of `namespace` names; `root` is the mesh's
    root namespace, whose EnvoyFilters are for all proxies."""
    found: dict[Key, None] = {}
    for plural, space, name in _EXTENSION.findall(error):
        config = reads.get(_EXTENSIONS[plural], space, name)
        if config is not None:
            found[config.key] = None
    for host in _CLUSTER.findall(error):
        found.update(dict.fromkeys(_of_host(reads, host, namespace)))
    quoted = [word.removeprefix(_OF_TYPES) for word in _QUOTED.findall(error)]
    if quoted:
        for config in _filters(reads, namespace, pod_labels, root):
            written = json.dumps(config.spec.get("configPatches"), ensure_ascii=False)
            if any(word and word in written for word in quoted):
                found[config.key] = None
    return list(found)[:_MOST]


def _of_host(reads: Reads, host: str, namespace: str) -> Iterator[Key]:
    """Its DestinationRules, for they set up its clusters; without any, its ServiceEntries."""
    for kind in (kinds.DESTINATION_RULE, kinds.SERVICE_ENTRY):
        keys = sorted(config.key for config in reads.tagged(kind, tags.host(host)))
        # Those of the proxy's own namespace go before others.
        yield from sorted(keys, key=lambda key: key.namespace != namespace)
        if keys:
            return


def _filters(reads: Reads, namespace: str, pod_labels: Labels, root: str) -> list[Config]:
    """The EnvoyFilters that apply to a pod."""
    spaces = dict.fromkeys((namespace, root))
    configs = (config for space in spaces for config in reads.all(kinds.ENVOY_FILTER, space))
    applying = [
        config
        for config in configs
        if matches(labels(config.spec, "workloadSelector", "labels"), pod_labels)
    ]
    return sorted(applying, key=lambda config: config.key)
