"""SMI objects of a request, with those that the cluster has, as objects of Istio.

Nothing is raised for what the objects say: everything that is wrong is found in one go. An object
with errors becomes nothing; the caller refuses the whole request for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.messages.facts import ClusterFacts
from services.translator.options import Options
from services.translator.reports import Line, Report
from services.translator.smi.access import translated_target
from services.translator.smi.httproutes import HttpRoutes
from services.translator.smi.models import Key, Kind, Split, Target
from services.translator.smi.naming import is_label
from services.translator.smi.reading import (
    VERSIONS,
    Reading,
    destination_namespace,
    key_of,
    references_of,
)
from services.translator.smi.results import Surroundings
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
    # A destination may name anything; what cannot be a namespace is told when it is translated.
    return {namespace for namespace in found if is_label(namespace)}


def translate(
    given: Sequence[KubeObject],
    *,
    known: Sequence[KubeObject],
    facts: ClusterFacts,
    options: Options,
    trust_domain: str,
) -> Report:
    """What `given` becomes; objects of `known` count unless `given` has them too.

    The report's objects are made out of the request's, and out of known ones that refer to a route
    group or TCPRoute of the request, because what they say has changed. Policies that deny by
    default are in `kept`: a deletion applies them too, because what no TrafficTarget allows any
    more must be denied again.
    """
    reading = Reading()
    changed = _read_all(given, reading, options)
    _read_all([obj for obj in known if key_of(obj) not in changed], reading, options)
    around = Surroundings(
        groups=reading.groups,
        port_routes=reading.port_routes,
        splits=_by_root(reading.splits.values()),
        present=frozenset(reading.present),
        facts=facts,
        options=options,
        trust_domain=trust_domain,
    )
    to_translate = _to_translate(changed, reading)
    report = Report()
    if _check_size(to_translate, reading, report):
        return report
    for read in to_translate:
        report.collect(_translated(read, around))
    report.lines += _untranslated(changed, reading, to_translate)
    told = changed | {key for read in to_translate for key in (_key(read), *references_of(read))}
    report.findings += [finding for key in told for finding in reading.findings.get(key, ())]
    report.findings.sort(key=lambda one: (one.subject, one.place, one.message))
    report.objects, report.kept = _ordered(report.objects), _ordered(report.kept)
    return report


def _check_size(reads: Sequence[Split | Target], reading: Reading, report: Report) -> bool:
    """Keeps a small request from becoming an endless one: each use of a group writes it out."""
    uses = 0
    for read in reads:
        groups = [reading.groups[key] for key in references_of(read) if key in reading.groups]
        uses += sum(len(group.matches) for group in groups)
        if uses > _MOST_USES:
            refused = Report(read.ref)
            refused.error(
                (),
                f"the request's objects use more than {_MOST_USES} matches of route groups",
                rule="size",
                remedy="split the request into several",
            )
            report.collect(refused)
            return True
    return False


def _read_all(objects: Iterable[KubeObject], reading: Reading, options: Options) -> set[Key]:
    """Reads the objects in an order that does not depend on theirs."""
    read: dict[Key, KubeObject] = {}
    for obj in sorted(objects, key=lambda obj: (Ref.of(obj), repr(obj))):
        key = key_of(obj)
        if key not in read:
            reading.read(obj, cluster_domain=options.clusterDomain)
        elif read[key] != obj:
            twice = Report(Ref.of(obj))
            twice.error((), f"{key} stands in the request twice", rule="conflict")
            reading.findings[key] += twice.findings
        read.setdefault(key, obj)
    return set(read)


def _by_root(splits: Iterable[Split]) -> dict[tuple[str, str], list[Split]]:
    found: dict[tuple[str, str], list[Split]] = {}
    for split in sorted(splits, key=lambda split: split.ref):
        found.setdefault((split.ref.namespace, split.root), []).append(split)
    return found


def _to_translate(changed: set[Key], reading: Reading) -> list[Split | Target]:
    """The request's splits and targets, and known ones whose rules or matches changed."""
    every: list[Split | Target] = [*reading.splits.values(), *reading.targets.values()]
    chosen = [
        read
        for read in every
        if _key(read) in changed or any(key in changed for key in references_of(read))
    ]
    return sorted(chosen, key=lambda read: read.ref)


def _key(read: Split | Target) -> Key:
    return Key(read.ref.kind, read.ref.namespace, read.ref.name)


def _translated(read: Split | Target, around: Surroundings) -> Report:
    return translated_target(read, around) if isinstance(read, Target) else _split(read, around)


def _split(split: Split, around: Surroundings) -> Report:
    report = Report(split.ref)
    plan = planned(split, around, report)
    if not report.has_errors:
        if around.options.form == "gateway-api":
            HttpRoutes(plan, around=around, report=report).write()
        else:
            domain = around.options.clusterDomain
            VirtualServices(plan, cluster_domain=domain, report=report).write()
    if report.has_errors:
        report.objects.clear()
    reason = next((finding.message for finding in report.findings), "no port is left to split")
    report.became("" if report.objects else reason)
    return report


def _untranslated(
    changed: set[Key], reading: Reading, translated: Sequence[Split | Target]
) -> list[Line]:
    """Lines about objects that become nothing by themselves."""
    users: dict[Key, list[str]] = {}
    for read in translated:
        for key in references_of(read):
            users.setdefault(key, []).append(str(read.ref))
    lines: list[Line] = []
    for key in sorted(changed & reading.findings.keys(), key=str):
        ref = reading.present[key]
        if reading.findings[key] and key.kind not in (Kind.SPLIT, Kind.TARGET):
            lines.append(Line(source=str(ref), note=reading.findings[key][0].message))
        elif key.kind == Kind.UDP_ROUTE:
            lines.append(Line(source=str(ref), note="Istio's proxies do not see UDP"))
        elif key in reading.groups or key in reading.port_routes:
            used = (
                ", ".join(dict.fromkeys(users.get(key, ()))) or "no TrafficTarget or TrafficSplit"
            )
            note = f"it has no effect of its own; it is used by {used}"
            lines.append(Line(source=str(ref), note=note))
        elif key not in reading.splits and key not in reading.targets:
            lines.append(Line(source=str(ref), note=reading.findings[key][0].message))
    return lines


def _ordered(objects: Iterable[KubeObject]) -> list[KubeObject]:
    """Each object once, in an order of their own."""
    by_ref = {Ref.of(obj): obj for obj in objects}
    return [by_ref[ref] for ref in sorted(by_ref)]
