"""Brings SMI objects to the cluster as what our translator makes of them."""

from __future__ import annotations

from collections.abc import Callable

from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.messages.facts import ClusterFacts
from services.translator.options import Options
from services.translator.reports import Level, Report
from services.translator.smi import translate
from tests.testbed import entries
from tests.testbed.clusters import Cluster


class Translated:
    """The SMI objects that one test has applied, and what the mesh knows of them."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        facts: ClusterFacts,
        trust_domain: str,
        settle: Callable[[], None],
    ) -> None:
        """`settle` returns when the proxies have what was applied."""
        self._cluster = cluster
        self._facts = facts
        self._trust_domain = trust_domain
        self._settle = settle
        self._known: dict[Ref, KubeObject] = {}

    def apply(self, *objects: KubeObject) -> None:
        """Applies what the objects become, and waits until the proxies have it."""
        self._known |= {Ref.of(obj): obj for obj in objects}
        translation = self._translate(objects)
        entries.apply(self._cluster, [*translation.objects, *translation.kept])
        self._settle()

    def delete(self, *objects: KubeObject) -> None:
        """Deletes what the objects became. What denies by default stays."""
        entries.delete(self._cluster, self._translate(objects).objects)
        for obj in objects:
            del self._known[Ref.of(obj)]
        self._settle()

    def _translate(self, objects: tuple[KubeObject, ...]) -> Report:
        translation = translate(
            objects,
            known=list(self._known.values()),
            facts=self._facts,
            options=Options(),
            trust_domain=self._trust_domain,
        )
        errors = [found for found in translation.findings if found.level is Level.ERROR]
        if errors:
            raise ValueError(f"the test's objects cannot be translated: {errors}")
        return translation
