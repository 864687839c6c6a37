"""Where a mesh's own settings are found."""

from __future__ import annotations

import pytest

from services.topology.mesh.meshes import Mesh, mesh_of
from tests.unit.topology.analysis.kia.cases import CORE, one, state_of


def settings(name: str, namespace: str, text: str = "{}") -> str:
    return one(CORE, "ConfigMap", name, f'\ndata: {{mesh: "{text}"}}', namespace=namespace)


USUAL = settings("istio", "istio-system", "{trustDomain: usual}")
ELSEWHERE = settings("istio", "mesh-system", "{trustDomain: elsewhere}")
REVISION = settings("istio-1-31-0", "istio-system", "{trustDomain: revision}")


@pytest.mark.parametrize(
    ("text", "domain", "system", "root"),
    [
        (USUAL + ELSEWHERE + REVISION, "usual", "istio-system", "istio-system"),
        (ELSEWHERE + REVISION, "elsewhere", "mesh-system", "mesh-system"),
        (REVISION, "revision", "istio-system", "istio-system"),
        (
            settings("istio", "mesh-system", "{rootNamespace: mesh-root}"),
            "cluster.local",
            "mesh-system",
            "mesh-root",
        ),
    ],
    ids=["usual", "elsewhere", "revision", "root"],
)
def test_the_settings_of_the_unnamed_revision_count_wherever_it_is(
    text: str, domain: str, system: str, root: str
) -> None:
    mesh = mesh_of(state_of(text)[0])
    assert (mesh.trust_domain, mesh.system_namespace, mesh.root_namespace) == (domain, system, root)
    assert mesh.is_known


def test_other_config_maps_are_no_settings() -> None:
    others = settings("istiod-settings", "istio-system") + one(
        CORE, "ConfigMap", "istio-ca-root-cert", '\ndata: {"root-cert.pem": x}', namespace="shop"
    )
    assert mesh_of(state_of(others)[0]) == Mesh()
