"""The documented rights are enough to install and remove Istio, and no cluster-admin."""

from __future__ import annotations

import pytest

from deploy.local.kubeconfigs import Kubectl, grant, remove
from deploy.rights import Tier
from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster, kubectl_path
from tests.testbed.meshery import Meshery
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.snapshots import differences, snapshot
from tests.testbed.stack import ROOT

PAGE = ROOT / "docs" / "reference" / "rbac.md"


@pytest.fixture
def limited(bare: Cluster) -> str:
    """A kubeconfig whose user has the documented rights and no others."""
    role = PAGE.read_text().partition("```yaml\n")[2].partition("```")[0]
    bare.kubectl("apply", "-f", "-", stdin=role)
    return bare.token_kubeconfig_text(
        account="limited", namespace="kube-system", role="meshbus-lifecycle"
    )


async def test_the_documented_rights_are_enough(
    limited: str, bare: Cluster, meshery: Meshery
) -> None:
    before = snapshot(bare)
    kubeconfigs = [limited]
    installed = await meshery.run("istio", version=ISTIO_VERSION, kubeconfigs=kubeconfigs)
    assert not installed.failed, installed.event
    labelled = await meshery.run("label-namespace", kubeconfigs=kubeconfigs)
    assert not labelled.failed, labelled.event
    await meshery.run("label-namespace", kubeconfigs=kubeconfigs, delete=True)
    removed = await meshery.run("istio", delete=True, kubeconfigs=kubeconfigs)
    assert not removed.failed, removed.event
    assert differences(before, snapshot(bare)) == []


async def test_what_the_user_may_not_do_is_said(
    limited: str, bare: Cluster, meshery: Meshery
) -> None:
    body = (
        '{"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", '
        '"metadata": {"name": "refused"}, "value": 1}'
    )
    refused = await meshery.run("custom", body=body, kubeconfigs=[limited])
    assert refused.event.error_code == "MB-3003"
    assert "PriorityClass refused" in refused.event.details
    assert "docs/reference/rbac.md" in refused.event.suggested_remediation
    allowed = await meshery.run("custom", body=config_map("allowed"), kubeconfigs=[limited])
    assert not allowed.failed, allowed.event
    bare.kubectl("delete", "cm", "allowed")


@pytest.mark.full
async def test_the_full_tier_of_make_kubeconfig_installs_istio(
    bare: Cluster, meshery: Meshery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECTL", str(kubectl_path()))
    kubectl = Kubectl.of(bare.name, kubeconfig=str(bare.kubeconfig))
    granted = grant(kubectl, context=bare.name, tier=Tier.FULL, ttl="1h")
    try:
        body = (
            "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: {profile: minimal}"
        )
        installed = await meshery.run(
            "istio", version=ISTIO_VERSION, body=body, kubeconfigs=[granted.text]
        )
        assert not installed.failed, installed.event
        removed = await meshery.run("istio", delete=True, kubeconfigs=[granted.text])
        assert not removed.failed, removed.event
    finally:
        remove(kubectl)
