"""What the translation of a TrafficSplit or TrafficTarget depends on beside its own text.

Route groups are no facts: they come with the request, or SMI's objects in the cluster are read anew
each time.
"""

from __future__ import annotations

from services.chassis.messages import Fact, Follow
from services.chassis.messages.following import (
    MADE_KINDS,
    account_fact,
    mesh_fact,
    service_fact,
    versions_fact,
)
from services.translator.smi.models import Split, Surroundings, Target
from services.translator.smi.naming import origin_of
from services.translator.smi.residents import account_of

_VIRTUAL_SERVICE, _POLICY, *_ROUTES = MADE_KINDS


def depending(read: Split | Target, around: Surroundings, *, root_namespace: str) -> Follow:
    """The source and the facts that its translation used, also those that are not there yet."""
    facts = (
        _of_target(read, around, root_namespace) if isinstance(read, Target) else _of(read, around)
    )
    return Follow(source=origin_of(read.ref), facts=facts)


def _of(split: Split, around: Surroundings) -> list[Fact]:
    namespace = split.ref.namespace
    names = dict.fromkeys((split.root, *(backend.service for backend in split.backends)))
    is_gateway_api = around.options.form == "gateway-api"
    kinds = _ROUTES if is_gateway_api else [_VIRTUAL_SERVICE]
    return [
        *(service_fact(namespace, name, around.service(namespace, name)) for name in names),
        *(versions_fact(kind, around.facts.served) for kind in kinds),
    ]


def _of_target(target: Target, around: Surroundings, root_namespace: str) -> list[Fact]:
    account = target.destination
    mesh = mesh_fact(root_namespace=root_namespace, trust_domain=around.trust_domain)
    ours = around.residents.under(account.namespace, account.name)
    # Of all others, those that our selectors reach.
    workloads = [
        *ours,
        *(
            other
            for one in ours
            for other in around.residents.selected(account.namespace, one.selecting)
            if account_of(other) != account.name
        ),
    ]
    return [
        account_fact(account.namespace, account.name, workloads),
        versions_fact(_POLICY, around.facts.served),
        # Principals that name a trust domain of the request's own depend on no mesh.
        *([] if around.options.trustDomain else [mesh]),
    ]
