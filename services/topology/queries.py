"""The service API of topology: `mesh.topology.<verb>`."""

from __future__ import annotations

from services.chassis.bus.queries import Query
from services.topology.handlers import Handlers

_AT = '"at": TIME'


def queries(handlers: Handlers) -> list[Query]:
    """The questions. `cluster` is a token or a name, and needed when several are registered."""
    of = '"cluster": CLUSTER'
    return [
        Query("clusters", "{}", handlers.clusters),
        Query(
            "graph",
            f'{{{of}, "graphType": "versionedApp", "namespaces": [NAME], {_AT}}}',
            handlers.graph,
        ),
        Query(
            "path",
            f'{{{of}, "source": "NAMESPACE/WORKLOAD", "host": HOST, "port": NUMBER}}',
            handlers.path,
        ),
        Query("drift", f"{{{of}, {_AT}}}", handlers.drift),
        Query("heal", f'{{{of}, "drift": ID}}', handlers.heal),
        Query(
            "findings",
            f'{{{of}, "namespaces": [NAME], "codes": [CODE], {_AT}}}',
            handlers.findings,
        ),
        Query("vet", f"{{{of}}}", handlers.vet),
        Query("compliance", f"{{{of}}}", handlers.compliance),
        Query(
            "object",
            f'{{{of}, "kind": "GROUP/KIND", "namespace": NAME, "name": NAME}}',
            handlers.object,
        ),
    ]
