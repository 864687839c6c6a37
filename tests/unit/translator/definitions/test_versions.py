"""Which version of a kind is written, by what the cluster serves."""

from __future__ import annotations

import pytest

from services.translator.definitions.schemas import Schemas
from services.translator.definitions.versions import in_version, newest_first, preferred_version
from tests.unit.translator.definitions.samples import GROUP, definition, thing


def test_order_of_versions() -> None:
    mixed = ["v1alpha3", "v1beta1", "v2", "v11", "v1", "v1beta2", "v2alpha1", "foo", "bar", "v1"]

    assert newest_first(mixed) == (
        *("v11", "v2", "v1", "v1beta2", "v1beta1", "v2alpha1", "v1alpha3"),
        *("bar", "foo"),
    )


@pytest.mark.parametrize(
    ("served", "version"),
    [
        pytest.param(["v1", "v1beta1", "v1alpha3"], "v1", id="all"),
        pytest.param(["v1alpha3", "v1beta1"], "v1beta1", id="an older Istio"),
        pytest.param(["v1alpha3"], "v1alpha3", id="a very old one"),
        pytest.param([], "v1", id="nothing is known of the cluster"),
        pytest.param(["v2", "v1"], "v1", id="a newer version that the definition lacks"),
        pytest.param(["v1alpha1", "v1alpha2"], "v1alpha2", id="only versions that it lacks"),
        pytest.param(["v0", "v1beta1"], "v1beta1", id="one that is not served any more"),
    ],
)
def test_preferred_version(served: list[str], version: str) -> None:
    text = definition(
        {"type": "object"}, versions=("v1", "v1beta1", "v1alpha3", "v0"), unserved=("v0",)
    )
    found = Schemas.read([text]).find(GROUP, "Thing")
    assert found is not None

    assert preferred_version(found, served) == version


def test_an_object_in_another_version_is_another_object() -> None:
    given = thing({"x": 1})
    other = in_version(given, f"{GROUP}/v1beta1")

    assert other == {**given, "apiVersion": f"{GROUP}/v1beta1"}
    assert given["apiVersion"] == f"{GROUP}/v1"
