"""What istiod itself writes into webhook configurations, kept over a repeat.

The charts render the validators with `failurePolicy: Ignore`; istiod changes that to `Fail` once
it can answer. Sending `Ignore` again would open a gap until istiod closes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import orjson

from services.chassis.errors import ObjectNotFound
from services.chassis.kube.client import KubeClient
from services.lifecycle.manifests.objects import PlannedObject

_KIND = "ValidatingWebhookConfiguration"
_COLLECTION = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


async def with_live_failure_policy(
    client: KubeClient, objects: Sequence[PlannedObject], *, skip: Callable[[PlannedObject], bool]
) -> list[PlannedObject]:
    """The objects, with `Fail` where the live validator has it."""
    return [
        await _kept(client, planned) if planned.ref.kind == _KIND and not skip(planned) else planned
        for planned in objects
    ]


async def _kept(client: KubeClient, planned: PlannedObject) -> PlannedObject:
    try:
        live = await client.get(f"{_COLLECTION}/{planned.ref.name}", subject=str(planned.ref))
    except ObjectNotFound:
        return planned
    closed = {w["name"] for w in live.get("webhooks") or [] if w.get("failurePolicy") == "Fail"}
    wanted = orjson.loads(planned.body)
    changed = False
    for webhook in wanted.get("webhooks") or []:
        if webhook["name"] in closed and webhook.get("failurePolicy") == "Ignore":
            webhook["failurePolicy"] = "Fail"
            changed = True
    return replace(planned, body=orjson.dumps(wanted)) if changed else planned
