"""What a cluster's account may do, asked of the API server that will judge by it.

`make doctor` asks through lifecycle, because what counts is whether lifecycle reaches the cluster,
with the credential that operations use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from itertools import product
from typing import Any

import orjson

from services.chassis.errors import MalformedRequest
from services.chassis.kube.client import KubeClient
from services.chassis.messages.facts import RightsRule

_PATH = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_MOST = 600
"""Twice what all rights that Meshbus ever needs take; each is a request."""
_AT_A_TIME = 12


async def review(client: KubeClient, rules: Sequence[RightsRule]) -> dict[str, Any]:
    """`missing`: what the account may not do, as `verb resource.group`; `version` of the server;
    `clock_ahead_s`: seconds that its clock is ahead of this one (HTTP tells whole seconds)."""
    asked = sorted(set(_each(rules)))
    if len(asked) > _MOST:
        raise MalformedRequest(f"the rules hold {len(asked)} rights, {_MOST} are asked at a time")
    told = await client.request("GET", "/version")
    ahead = _ahead(told.date)
    room = asyncio.Semaphore(_AT_A_TIME)

    async def is_missing(right: tuple[str, str, str]) -> bool:
        async with room:
            return not await _may(client, *right)

    verdicts = await asyncio.gather(*(is_missing(right) for right in asked))
    missing = [
        f"{verb} {resource}{'.' if group else ''}{group}"
        for (group, resource, verb), lacks in zip(asked, verdicts, strict=True)
        if lacks
    ]
    version = str(told.decoded().get("gitVersion", ""))
    return {"missing": missing, "version": version, "clock_ahead_s": ahead}


def _each(rules: Iterable[RightsRule]) -> Iterable[tuple[str, str, str]]:
    for rule in rules:
        yield from product(rule.apiGroups, rule.resources, rule.verbs)


async def _may(client: KubeClient, group: str, resource: str, verb: str) -> bool:
    name, _, subresource = resource.partition("/")
    attributes = {"group": group, "resource": name, "subresource": subresource, "verb": verb}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = await client.request("POST", _PATH, body=orjson.dumps(body))
    status = answer.decoded().get("status")
    return isinstance(status, dict) and status.get("allowed") is True


def _ahead(date: str) -> float | None:
    try:
        return (parsedate_to_datetime(date) - datetime.now(timezone.utc)).total_seconds()
    except (TypeError, ValueError):
        return None
