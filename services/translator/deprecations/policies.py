"""Former forms of what is attached to workloads: references to targets, and token rules."""

from __future__ import annotations

from services.translator.deprecations.rewriting import Rewriting
from services.translator.istio.objects import entries, inner
from services.translator.istio.versions import Minor

_REFERENCES_SINCE: Minor = (1, 22)


def rewrite_reference(rewriting: Rewriting) -> None:
    """`targetRef` is the only one of `targetRefs`; istiod reads it where that is empty."""
    spec = inner(rewriting.obj, "spec")
    if "targetRef" not in spec or not rewriting.reaches(_REFERENCES_SINCE):
        return
    reference = spec["targetRef"]
    if spec.get("targetRefs"):
        del spec["targetRef"]
        rewriting.dropped(("spec", "targetRef"), "stands beside targetRefs and is not read")
    elif isinstance(reference, dict):
        del spec["targetRef"]
        spec["targetRefs"] = [reference]
        rewriting.became(("spec", "targetRef"), "targetRefs", since=_REFERENCES_SINCE)


def rewrite_tokens(rewriting: Rewriting) -> None:
    """`jwks_uri` is another spelling of `jwksUri`."""
    for index, rule in entries(inner(rewriting.obj, "spec").get("jwtRules")):
        if "jwks_uri" in rule and "jwksUri" not in rule:
            rule["jwksUri"] = rule.pop("jwks_uri")
            rewriting.became(("spec", "jwtRules", index, "jwks_uri"), "jwksUri")
