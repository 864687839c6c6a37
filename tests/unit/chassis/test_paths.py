"""Paths of objects on an API server: a name is one segment, whoever wrote it."""

from __future__ import annotations

import pytest

from services.chassis.errors import ObjectInvalid
from services.chassis.kube.objects import Ref
from services.chassis.kube.resources import Resource

ROLES = Resource("rbac.authorization.k8s.io/v1", "Role", "roles", True, frozenset())


@pytest.mark.parametrize("name", ["admin", "system:node", "a.b-c", "x@y"])
def test_a_name_is_a_segment(name: str) -> None:
    ref = Ref("rbac.authorization.k8s.io/v1", "Role", "shop", name)
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/shop/roles/{name}"
    assert ROLES.path(ref) == path


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../../other/roles/x", "a/b", "a%2fb", "a?dryRun=All", "a#b", "a\\b", "a\nb"],
)
def test_what_would_lead_elsewhere_is_refused(name: str) -> None:
    """A plan comes from another service: judged by its namespace, it must stay there."""
    with pytest.raises(ObjectInvalid, match="not the name"):
        ROLES.path(Ref("rbac.authorization.k8s.io/v1", "Role", "shop", name))
    if name:
        with pytest.raises(ObjectInvalid, match="not the name"):
            ROLES.path(Ref("rbac.authorization.k8s.io/v1", "Role", name, "admin"))
