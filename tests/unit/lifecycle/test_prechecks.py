"""What is looked at before the first write: the rules, and who may override them."""

from __future__ import annotations

import pytest

from services.chassis.errors import PrecheckRefused, RevisionInUse, RevisionUnknown
from services.lifecycle.cluster.inventory import Inventory
from services.lifecycle.mesh.prechecks import (
    Findings,
    check_install,
    check_uninstall,
    kubernetes_minor,
    require_alone,
    revisions_to_remove,
    system_namespace,
)
from services.lifecycle.mesh.requests import MeshRequest
from tests.unit.lifecycle.samples import definition, foreign_plane, inventory, plane, tag

DEFAULT = MeshRequest()
CANARY = MeshRequest(revision="canary", revision_given=True)


def install(
    request: MeshRequest = DEFAULT,
    *,
    version: str = "1.31.0",
    there: Inventory | None = None,
    minor: int = 34,
) -> Findings:
    return check_install(
        request, version=version, inventory=there or inventory(), kubernetes_minor=minor
    )


@pytest.mark.parametrize(
    ("there", "request_", "version"),
    [
        pytest.param(inventory(), DEFAULT, "1.31.0", id="nothing installed"),
        pytest.param(inventory(plane("default", "1.31.0")), DEFAULT, "1.31.0", id="the same"),
        pytest.param(inventory(plane("default", "1.31.0")), DEFAULT, "1.31.9", id="a patch"),
        pytest.param(inventory(plane("default", "1.30.0")), DEFAULT, "1.31.0", id="a minor"),
        pytest.param(inventory(plane("default", "1.30.0")), CANARY, "1.31.0", id="a canary"),
        pytest.param(inventory(plane("default", "")), DEFAULT, "1.31.0", id="unknown version"),
        pytest.param(inventory(definition("a", "1.9.0")), DEFAULT, "1.31.0", id="old definitions"),
    ],
)
def test_a_safe_install_has_no_findings(
    there: Inventory, request_: MeshRequest, version: str
) -> None:
    assert install(request_, version=version, there=there) == Findings()


@pytest.mark.parametrize(
    ("there", "version", "minor", "words"),
    [
        pytest.param(
            inventory(plane("default", "1.31.1")), "1.31.0", 34, "is a downgrade", id="downgrade"
        ),
        pytest.param(
            inventory(plane("default", "1.29.0")), "1.31.0", 34, "jumps over", id="two minors"
        ),
        pytest.param(
            inventory(), "1.31.0", 31, "needs Kubernetes 1.32, the cluster has 1.31", id="old"
        ),
        pytest.param(
            inventory(foreign=(foreign_plane("default"),)),
            "1.31.0",
            34,
            "installed by another tool (Deployment istio-system/istiod)",
            id="another tool",
        ),
        pytest.param(
            inventory(foreign=(foreign_plane(None),)),
            "1.31.0",
            34,
            "revision default was installed by another tool",
            id="another tool without a revision",
        ),
    ],
)
def test_an_unsafe_install_is_refused_unless_forced(
    there: Inventory, version: str, minor: int, words: str
) -> None:
    findings = install(version=version, there=there, minor=minor)
    with pytest.raises(PrecheckRefused) as caught:
        findings.settle(force=False)
    assert words in caught.value.summary
    assert "force: true" in caught.value.remedy
    [told] = findings.settle(force=True)
    assert told.startswith("forced although ")
    assert words in told


def test_all_reasons_are_told_at_once() -> None:
    there = inventory(plane("default", "1.31.1"), foreign=(foreign_plane("default"),))
    with pytest.raises(PrecheckRefused) as caught:
        install(there=there, minor=20).settle(force=False)
    for words in ("needs Kubernetes", "downgrade", "another tool"):
        assert words in caught.value.summary


@pytest.mark.parametrize(
    ("there", "request_", "minor", "words"),
    [
        pytest.param(inventory(), DEFAULT, 37, "not tested with Kubernetes 1.37", id="new"),
        pytest.param(
            inventory(foreign=(foreign_plane("other"),)),
            DEFAULT,
            34,
            "another tool installed revision other",
            id="another tool's revision",
        ),
        pytest.param(
            inventory(plane("default", "1.29.0")),
            CANARY,
            34,
            "revision default (1.29.0) is more than one minor version away",
            id="canary too far ahead",
        ),
        pytest.param(
            inventory(plane("default", "2.0.0")), CANARY, 34, "more than one", id="other major"
        ),
    ],
)
def test_a_warning_stops_nothing(
    there: Inventory, request_: MeshRequest, minor: int, words: str
) -> None:
    findings = install(request_, there=there, minor=minor)
    assert findings.refusals == []
    for force in (True, False):
        [told] = findings.settle(force=force)
        assert words in told


@pytest.mark.parametrize(
    ("version", "minor"),
    [("1.31.0", 32), ("1.31.0", 36), ("1.31.0", 0), ("1.99.0", 5), ("1.29.2", 31), ("1.29.2", 35)],
)
def test_a_cluster_in_range_or_unknown_is_fine(version: str, minor: int) -> None:
    assert install(version=version, minor=minor) == Findings()


def test_a_downgrade_of_another_revision_is_no_downgrade() -> None:
    there = inventory(plane("default", "1.31.1"))
    assert install(CANARY, version="1.31.0", there=there).refusals == []


@pytest.mark.parametrize(
    ("answer", "minor"),
    [
        ({"minor": "33"}, 33),
        ({"minor": "33+"}, 33),
        ({"minor": ""}, 0),
        ({"minor": "x33"}, 0),
        ({}, 0),
    ],
)
def test_the_cluster_s_minor(answer: dict[str, str], minor: int) -> None:
    assert kubernetes_minor(answer) == minor


# ---- Removing ------------------------------------------------------------------------------------

TWO = inventory(plane("1-30", "1.30.0"), plane("1-31", "1.31.0"))
BESIDE_DEFAULT = inventory(plane("default", "1.30.0"), plane("canary", "1.31.0"))


def named(revision: str) -> MeshRequest:
    return MeshRequest(revision=revision, revision_given=True)


@pytest.mark.parametrize(
    ("request_", "there", "revision"),
    [
        pytest.param(DEFAULT, inventory(), None, id="nothing installed"),
        pytest.param(named("canary"), inventory(), None, id="named, nothing installed"),
        pytest.param(DEFAULT, inventory(definition("a", "1.31.0")), None, id="only definitions"),
        pytest.param(DEFAULT, inventory(plane("1-31", "1.31.0")), "1-31", id="the only one"),
        pytest.param(DEFAULT, BESIDE_DEFAULT, "default", id="the unnamed one"),
        pytest.param(named("canary"), BESIDE_DEFAULT, "canary", id="the named one"),
        pytest.param(named("default"), BESIDE_DEFAULT, "default", id="the unnamed one by name"),
        pytest.param(named("1-30"), TWO, "1-30", id="one of two"),
    ],
)
def test_which_revision_goes(request_: MeshRequest, there: Inventory, revision: str | None) -> None:
    assert revisions_to_remove(request_, there) == ((revision,) if revision else ())


def test_a_purge_without_a_name_means_all() -> None:
    assert revisions_to_remove(MeshRequest(purge=True), TWO) == ("1-30", "1-31")


def test_a_guess_is_not_made() -> None:
    with pytest.raises(RevisionUnknown) as caught:
        revisions_to_remove(DEFAULT, TWO)
    assert "1-30, 1-31" in caught.value.summary
    assert "spec.revision" in caught.value.remedy


@pytest.mark.parametrize("revision", ["1-29", "default"])
def test_an_unknown_revision_lists_those_that_there_are(revision: str) -> None:
    with pytest.raises(RevisionUnknown, match=r"installed: 1-30, 1-31"):
        revisions_to_remove(named(revision), TWO)


# ---- Two of one name -----------------------------------------------------------------------------

OURS, THEIRS = "istio-system", "theirs"
TWINS = inventory(plane("default", "1.31.0"), plane("default", "1.31.0", THEIRS))


def within(namespace: str) -> MeshRequest:
    return MeshRequest(namespace=namespace, namespace_given=True)


def test_an_istio_is_named_where_there_are_several() -> None:
    for request in (DEFAULT, CANARY):
        with pytest.raises(RevisionUnknown, match="the namespaces istio-system, theirs"):
            system_namespace(request, TWINS, request.revision)
    assert system_namespace(within(THEIRS), TWINS, "default") == THEIRS
    beside = inventory(plane("1-30", "1.30.0"), plane("1-31", "1.31.0", THEIRS))
    assert system_namespace(DEFAULT, beside, "1-31", "default") == THEIRS
    assert system_namespace(DEFAULT, inventory(plane("1-30", "1.30.0", THEIRS)), "1-31") == THEIRS
    assert system_namespace(DEFAULT, inventory(), "default") == OURS


@pytest.mark.parametrize(
    ("there", "namespace", "told"),
    [
        (inventory(plane("default", "1.31.0")), THEIRS, OURS),
        (TWINS, OURS, THEIRS),
        (TWINS, THEIRS, OURS),
        (TWINS, "neither", f"{OURS}, {THEIRS}"),
    ],
)
def test_a_revision_is_in_one_namespace(there: Inventory, namespace: str, told: str) -> None:
    with pytest.raises(RevisionInUse, match=f"is installed in the namespace {told},"):
        require_alone(there, "default", namespace)
    require_alone(there, "canary", namespace)


# ---- Tags ----------------------------------------------------------------------------------------


def tagged(*tags: tuple[str, str]) -> Inventory:
    return inventory(*TWO.objects.values(), *(tag(name, revision) for name, revision in tags))


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ([("prod", "1-30")], "still has the tag prod"),
        ([("prod", "1-30"), ("default", "1-30")], "still has the tags default, prod"),
    ],
)
def test_a_revision_with_tags_stays_unless_forced(tags: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(RevisionInUse) as caught:
        check_uninstall(revisions=("1-30",), inventory=tagged(*tags), force=False)
    assert words in caught.value.summary
    assert "install revision 1-31 with `tags: [" in caught.value.remedy
    check_uninstall(revisions=("1-30",), inventory=tagged(*tags), force=True)


def test_tags_that_nobody_else_could_hold_stop_nothing() -> None:
    last = inventory(plane("1-30", "1.30.0"), tag("prod", "1-30"))
    check_uninstall(revisions=("1-30",), inventory=last, force=False)
    check_uninstall(revisions=("1-30",), inventory=tagged(("prod", "1-31")), force=False)
    check_uninstall(revisions=("1-30",), inventory=TWO, force=False)


# ---- The inventory that the rules read -----------------------------------------------------------


def test_the_control_plane_tells_a_revision_s_version() -> None:
    other = plane("default", "1.29.0")
    other.obj["kind"], other.obj["metadata"]["name"] = "ConfigMap", "istio"
    there = inventory(
        type(other)(type(other.ref).of(other.obj), other.obj), plane("default", "1.30.0")
    )
    assert there.revisions() == {"default": "1.30.0"}
    assert inventory(*reversed(list(there.objects.values()))).revisions() == {"default": "1.30.0"}


def test_tags_are_read_from_their_webhooks() -> None:
    assert tagged(("prod", "1-30"), ("default", "1-31")).tags() == {
        "prod": "1-30",
        "default": "1-31",
    }


@pytest.mark.parametrize(
    ("there", "ours", "newer"),
    [("1.31.0", "1.30.0", True), ("1.30.0", "1.30.0", False), ("1.29.0", "1.30.0", False),
     ("", "1.30.0", False), ("1.31.0", "unknown", False)],
)  # fmt: skip
def test_a_definition_of_a_newer_istio_is_seen(there: str, ours: str, newer: bool) -> None:
    one = definition("a", there)
    assert inventory(one).is_newer(one.ref, ours) is newer
    assert not inventory().is_newer(one.ref, ours)
    assert not inventory(plane("default", "1.31.0")).is_newer(plane("default", "").ref, "1.30.0")
