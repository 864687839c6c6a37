"""Deprecated and removed forms, written as Istio has them today.

Only forms with an exact successor are rewritten; of the others the report names the successor. What
is deprecated was read in the protos of istio.io/api (1.20 to 1.31) and in istiod's use of the
fields.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.chassis.kube.objects import KubeObject
from services.translator.deprecations.fields import rewrite_annotations, rewrite_fields
from services.translator.deprecations.kinds import rewrite_retired, rewrite_version
from services.translator.deprecations.rewriting import Rewriting
from services.translator.istio.versions import minor_of
from services.translator.reports import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Modernized:
    """An object in today's forms. `obj` is a copy, never the object that was given."""

    obj: KubeObject
    findings: tuple[Finding, ...]


def modernized(
    obj: KubeObject, *, target: str | None = None, root_namespace: str = "istio-system"
) -> Modernized:
    """`obj` in the forms of Istio `target` (of the newest without one), and a finding for each.

    Repeating it changes nothing more. A form that cannot be rewritten exactly stays, with a
    finding; a removed kind is an error unless it has an exact successor. Objects that are neither
    Istio's nor the Gateway API's nor workloads come back as they are. Raises `OptionsMalformed`
    when `target` is no version.
    """
    rewriting = Rewriting(
        obj, target=minor_of(target) if target else None, root_namespace=root_namespace
    )
    if not rewrite_retired(rewriting):
        rewrite_fields(rewriting)
        rewrite_annotations(rewriting)
    # After the fields, because a form may be what keeps an object from its kind's current version.
    rewrite_version(rewriting)
    return Modernized(obj=rewriting.obj, findings=tuple(rewriting.report.findings))
