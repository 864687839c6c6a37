"""Labels of clusters, as kubeconfigs and questions have them."""

from __future__ import annotations

from typing import Any

import pytest

from services.chassis.errors import OptionsMalformed
from services.chassis.kube.labelling import has_labels, own_labels, region_of


def test_a_kubeconfig_says_what_its_cluster_is_like() -> None:
    assert own_labels({}) == {}
    assert own_labels({"meshbus.io/labels": {"region": "eu"}}) == {"region": "eu"}
    many = {str(number): "x" for number in range(33)}
    written: Any
    for written in ("eu", [], {"region": 1}, {"region": {}}, {"": "eu"}, many):
        with pytest.raises(OptionsMalformed, match=r"meshbus\.io/labels"):
            own_labels({"meshbus.io/labels": written})


def test_a_cluster_has_all_labels_or_is_not_chosen() -> None:
    own = {"region": "eu", "tier": "edge"}
    assert has_labels(own, {})
    assert has_labels(own, {"tier": "edge", "region": "eu"})
    assert not has_labels(own, {"tier": "edge", "region": "us"})
    assert not has_labels({}, {"region": "eu"})


@pytest.mark.parametrize(
    ("labels", "region"),
    [
        ({"region": "east", "topology.kubernetes.io/region": "eu-west-1"}, "east"),
        ({"topology.kubernetes.io/region": "eu-west-1"}, "eu-west-1"),
        ({"region": "Not a region", "topology.kubernetes.io/region": "eu-west-1"}, ""),
        ({"env": "prod"}, ""),
        ({}, ""),
    ],
)
def test_a_cluster_says_its_region_by_its_labels(labels: dict[str, str], region: str) -> None:
    assert region_of(labels) == region
