"""SMI objects of a request, with those that the cluster has, as objects of Istio.

Wrong objects raise no error: all findings come at once. An object with errors is not translated,
and the caller refuses the whole request for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.messages.facts import ClusterFacts
from services.translator.istio.objects import SYSTEM_NAMESPACE
from services.translator.options import Options
from services.translator.reports import Line, Report
from services.translator.smi.access import translated_target
from services.translator.smi.depending import depending
from services.translator.smi.httproutes import HttpRoutes
from services.translator.smi.models import (
    Key,
    Kind,
    PortRoute,
    RouteGroup,
    Split,
    Surroundings,
    Target,
)
from services.translator.smi.naming import is_label
from services.translator.smi.objects import (
    VERSIONS,
    SmiObjects,
    destination_namespace,
    key_of,
    references_of,
)
from services.translator.smi.residents import Residents
from services.translator.smi.splitting import planned
from services.translator.smi.virtualservices import VirtualServices

SMI_KINDS: tuple[str, ...] = tuple(f"{group}/{kind}" for group, kind in VERSIONS)
"""The kinds that are translated, each as `group/Kind`."""
_MOST_USES = 20_000
_SMI_DOMAIN = ".smi-spec.io"


def is_smi(obj: KubeObject) -> bool:
    """Whether the object is one of SMI's, also one that cannot be translated."""
    return Ref.of(obj).group.endswith(_SMI_DOMAIN)


def namespaces_of(given: Iterable[KubeObject], known: Iterable[KubeObject] = ()) -> set[str]:
    """Namespaces whose services and workloads the facts must have.

    Pass the known objects too: those that are translated again may reach into other namespaces.
    """
    given = list(given)
    changed = {key_of(obj) for obj in given}
    found: set[str] = set()
    for obj in [*given, *known]:
        namespace = Ref.of(obj).namespace
        if key_of(obj) in changed or any(key.namespace == namespace for key in changed):
            found |= {namespace, destination_namespace(obj)}
    # The translation reports a destination whose namespace cannot exist.
    return {namespace for namespace in found if is_label(namespace)}


def translate(
    given: Sequence[KubeObject],
    *,
    known: Sequence[KubeObject],
    facts: ClusterFacts,
    options: Options,
    trust_domain: str,
    root_namespace: str = SYSTEM_NAMESPACE,
) -> Report:
    """Translates `given`; objects of `known` count unless `given` has them too.

    The report's objects are made out of the request's, and out of known ones that refer to a route
    group or TCPRoute of the request, because what they say has changed. Policies that deny by
    default are in `kept`: a deletion applies them too, because what no TrafficTarget allows any
    more must be denied again.
    """
    read = SmiObjects()
    changed = read.read(given, cluster_domain=options.clusterDomain)
    others = [obj for obj in known if key_of(obj) not in changed]
    read.read(others, cluster_domain=options.clusterDomain)
    around = Surroundings(
        sound=read.sound,
        present=read.reports.keys(),
        splits=read.splits(),
        facts=facts,
        residents=Residents.of(facts),
        options=options,
        trust_domain=trust_domain,
    )
    to_translate = _to_translate(changed, read)
    report = Report()
    if _check_size(to_translate, read, report):
        return report
    for one in to_translate:
        report.collect(_translated(one, around))
        if _key(one) in changed:
            report.follow.append(depending(one, around, root_namespace=root_namespace))
    report.lines += _untranslated(changed, read, to_translate)
    reported = changed | {key for one in to_translate for key in (_key(one), *references_of(one))}
    for key in reported & read.reports.keys():
        report.collect(read.reports[key])
    report.findings.sort(key=lambda one: (one.subject, one.place, one.message))
    report.objects, report.kept = _ordered(report.objects), _ordered(report.kept)
    return report


def _check_size(to_translate: Sequence[Split | Target], read: SmiObjects, report: Report) -> bool:
    """Keeps a small request from becoming an endless one: each use of a group writes it out."""
    uses = 0
    for one in to_translate:
        groups = (read.sound.get(key) for key in references_of(one))
        uses += sum(len(group.matches) for group in groups if isinstance(group, RouteGroup))
        if uses > _MOST_USES:
            refused = Report(one.ref)
            refused.error(
                (),
                f"the request's objects use more than {_MOST_USES} matches of route groups",
                rule="size",
                remedy="split the request into several",
            )
            report.collect(refused)
            return True
    return False


def _to_translate(changed: set[Key], read: SmiObjects) -> list[Split | Target]:
    """The request's splits and targets, and known ones whose rules or matches changed."""
    chosen = [
        one
        for key, one in read.sound.items()
        if isinstance(one, Split | Target)
        and (key in changed or any(key in changed for key in references_of(one)))
    ]
    return sorted(chosen, key=lambda one: one.ref)


def _key(read: Split | Target) -> Key:
    return Key(read.ref.kind, read.ref.namespace, read.ref.name)


def _translated(read: Split | Target, around: Surroundings) -> Report:
    return translated_target(read, around) if isinstance(read, Target) else _split(read, around)


def _split(split: Split, around: Surroundings) -> Report:
    report = Report(split.ref)
    plan = planned(split, around, report)
    if not report.has_errors:
        if around.options.form == "gateway-api":
            HttpRoutes(plan, around, report).write()
        else:
            VirtualServices(plan, around.options.clusterDomain, report).write()
    if report.has_errors:
        report.objects.clear()
    reason = next((finding.message for finding in report.findings), "no port is left to split")
    report.became("" if report.objects else reason)
    return report


def _untranslated(
    changed: set[Key], read: SmiObjects, translated: Sequence[Split | Target]
) -> list[Line]:
    """Lines about objects that are not translated by themselves."""
    users: dict[Key, list[str]] = {}
    for one in translated:
        for key in references_of(one):
            users.setdefault(key, []).append(str(one.ref))
    lines: list[Line] = []
    for key in sorted(changed, key=str):
        report = read.reports[key]
        if report.findings and (key.kind not in (Kind.SPLIT, Kind.TARGET) or key not in read.sound):
            note = report.findings[0].message
        elif key.kind == Kind.UDP_ROUTE:
            note = "Istio's proxies do not see UDP"
        elif isinstance(read.sound[key], RouteGroup | PortRoute):
            by = ", ".join(dict.fromkeys(users.get(key, ()))) or "no TrafficTarget or TrafficSplit"
            note = f"it has no effect of its own; it is used by {by}"
        else:
            continue
        lines.append(Line(source=str(report.subject), note=note))
    return lines


def _ordered(objects: Iterable[KubeObject]) -> list[KubeObject]:
    """Each object once, in an order of their own."""
    by_ref = {Ref.of(obj): obj for obj in objects}
    return [by_ref[ref] for ref in sorted(by_ref)]
