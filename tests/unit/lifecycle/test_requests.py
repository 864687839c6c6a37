"""The body of the operation `istio`: what it may say, and what is refused in which words."""

from __future__ import annotations

from datetime import timedelta

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import (
    LifecycleError,
    OverlayMalformed,
    OverlayRefused,
    ProfileUnknown,
)
from services.lifecycle.mesh.requests import PROFILES, MeshRequest, parse_request

OPERATOR = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\n"
OPTIONS = "apiVersion: meshbus.io/v1\nkind: LifecycleOptions\n"


def operator(spec: str, *, namespace: str = "") -> str:
    metadata = f"metadata: {{namespace: {namespace}}}\n" if namespace else ""
    return f"{OPERATOR}{metadata}spec: {{{spec}}}\n"


def options(spec: str) -> str:
    return f"{OPTIONS}spec: {{{spec}}}\n"


def both(operator_spec: str, options_spec: str) -> str:
    return f"{operator(operator_spec)}---\n{options(options_spec)}"


# A body, the error, and what it must say.
BAD: dict[str, tuple[str, type[LifecycleError], str]] = {
    "not YAML, with its name": ("IstioOperator: [", OverlayMalformed, "the overlay is not YAML"),
    "not YAML, with our group": (OPTIONS + "spec: {", OverlayMalformed, "the overlay is not YAML"),
    "alias in it": (OPERATOR + "spec: &a [*a]", OverlayMalformed, "line 3: YAML aliases"),
    "tag in it": (OPERATOR + "spec: !!python/name:os.system", OverlayMalformed, "YAML tags"),
    "IstioOperator without a group": ("kind: IstioOperator\n", OverlayMalformed, "'IstioOperator'"),
    "another kind of its group": (
        "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperater\n",
        OverlayMalformed,
        "'IstioOperater'",
    ),
    "a kind that no operation takes": (
        "apiVersion: meshbus.io/v1\nkind: LifecycleOption\n",
        OverlayMalformed,
        "'LifecycleOption' of 'meshbus.io/v1'",
    ),
    "a later version of our options": (
        "apiVersion: meshbus.io/v2\nkind: LifecycleOptions\n",
        OverlayMalformed,
        "'meshbus.io/v2'",
    ),
    "duplicate key": (OPERATOR + "kind: IstioOperator\n", OverlayMalformed, "'kind' stands there"),
    "not a number": (operator("values: {a: .nan}"), OverlayMalformed, "line 3"),
    "wrong version": (
        "apiVersion: install.istio.io/v2\nkind: IstioOperator\n",
        OverlayMalformed,
        "'install.istio.io/v2'",
    ),
    "two IstioOperators": (
        operator("") + "---\n" + operator(""),
        OverlayMalformed,
        "more than one IstioOperator",
    ),
    "two options": (
        options("") + "---\n" + options(""),
        OverlayMalformed,
        "more than one LifecycleOptions",
    ),
    "spec is a list": (OPERATOR + "spec: [a]\n", OverlayMalformed, "spec of the IstioOperator"),
    "options' spec is text": (OPTIONS + "spec: a\n", OverlayMalformed, "spec of the Lifecycle"),
    "metadata is text": (OPERATOR + "metadata: a\n", OverlayMalformed, "metadata of the"),
    "unknown option": (options("purgeAll: true"), OverlayMalformed, "spec.purgeAll of the"),
    "long unknown option": (options(f"{'k' * 900}: 1"), OverlayMalformed, "spec.kkk"),
    "option with a blank": (options("'a b': 1"), OverlayMalformed, "spec.a b"),
    "force is text": (options("force: 'true'"), OverlayMalformed, "spec.force"),
    "purge is a number": (options("purge: 1"), OverlayMalformed, "spec.purge"),
    "tags are text": (options("tags: prod"), OverlayMalformed, "spec.tags"),
    "tag is a number": (options("tags: [1]"), OverlayMalformed, "spec.tags.0"),
    "tag in upper case": (options("tags: [Prod]"), OverlayMalformed, "spec.tags.0"),
    "second tag is bad": (options("tags: [prod, a.b]"), OverlayMalformed, "spec.tags.1"),
    "empty tag": (options("tags: ['']"), OverlayMalformed, "spec.tags.0"),
    "timeout of zero": (options("readinessTimeoutSeconds: 0"), OverlayMalformed, "readiness"),
    "timeout too long": (options("readinessTimeoutSeconds: 3601"), OverlayMalformed, "readiness"),
    "timeout is text": (options("readinessTimeoutSeconds: 5m"), OverlayMalformed, "readiness"),
    "timeout is a fraction": (options("readinessTimeoutSeconds: 1.5"), OverlayMalformed, "readi"),
    "options' revision is bad": (options("revision: a/b"), OverlayMalformed, "spec.revision"),
    "options' profile is a list": (options("profile: [a]"), OverlayMalformed, "spec.profile"),
    "revision in upper case": (operator("revision: Canary"), OverlayMalformed, "spec.revision"),
    "revision with dots": (operator("revision: 1.31.0"), OverlayMalformed, "spec.revision"),
    "revision with an end of line": (
        operator('revision: "canary\\n"'),
        OverlayMalformed,
        "spec.revision",
    ),
    "revision ends in a dash": (operator("revision: a-"), OverlayMalformed, "spec.revision"),
    "revision begins with a dash": (operator("revision: -a"), OverlayMalformed, "spec.revision"),
    "empty revision": (operator("revision: ''"), OverlayMalformed, "spec.revision"),
    "long revision": (operator(f"revision: {'a' * 57}"), OverlayMalformed, "spec.revision"),
    "revision is a number": (operator("revision: 7"), OverlayMalformed, "spec.revision"),
    "profile is a number": (operator("profile: 7"), OverlayMalformed, "spec.profile"),
    "unknown profile": (operator("profile: huge"), ProfileUnknown, "no profile 'huge'"),
    "unknown profile in options": (options("profile: huge"), ProfileUnknown, "no profile 'huge'"),
    "profile is a path": (operator("profile: /etc/passwd"), ProfileUnknown, "'/etc/passwd'"),
    "long profile": (operator(f"profile: {'p' * 900}"), ProfileUnknown, "no profile"),
    "profiles differ": (both("profile: demo", "profile: minimal"), OverlayMalformed, "profile"),
    "revisions differ": (both("revision: a", "revision: b"), OverlayMalformed, "spec.revision"),
    "package path": (
        operator("installPackagePath: /tmp/charts"),
        OverlayRefused,
        "spec.installPackagePath",
    ),
    "package address": (
        operator("installPackagePath: 'https://example.org/charts.tgz'"),
        OverlayRefused,
        "spec.installPackagePath",
    ),
    "empty package path": (operator("installPackagePath: ''"), OverlayRefused, "installPackage"),
    "namespace climbs": (operator("", namespace="../a"), OverlayMalformed, "metadata.namespace"),
    "namespaces differ": (
        operator("values: {global: {istioNamespace: a}}", namespace="b"),
        OverlayMalformed,
        "differ",
    ),
    "namespace of the values climbs": (
        operator("values: {global: {istioNamespace: ../a}}"),
        OverlayMalformed,
        "spec.values.global.istioNamespace",
    ),
    "namespace is a number": (operator("", namespace="7"), OverlayMalformed, "metadata.namespace"),
    "namespace is a list": (operator("", namespace="[a]"), OverlayMalformed, "metadata.namespace"),
}


# What Meshery's editor may hold beside, and what is told of it.
OTHERS: dict[str, tuple[str, str]] = {
    "a text": ("hello", "a document without a kind"),
    "a list": ("- a", "a document without a kind"),
    "not YAML": ("a: [", "text that cannot be read"),
    "an alias": ("a: &a 1\nb: *a", "text that cannot be read"),
    "a cycle": ("a: &a [*a]", "text that cannot be read"),
    "a tag": ("a: !!python/name:os.system", "text that cannot be read"),
    "deep": ("[" * 10_000, "text that cannot be read"),
    "a manifest": ("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n", "Secret"),
    "no kind": ("profile: demo\n", "a document without a kind"),
    "a kind that is a list": (
        "apiVersion: a\nkind: [IstioOperator]\n",
        "a document without a kind",
    ),
    "another operation's options": (
        "apiVersion: meshbus.io/v1\nkind: RoutingOptions\nspec: {}\n",
        "RoutingOptions",
    ),
    "many": ("---\n".join(f"kind: K{i}\n" for i in range(5)), "K0, K1, K2 and 2 more"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_for_no_mesh_is_ignored_and_told(case: str) -> None:
    body, told = OTHERS[case]
    assert parse_request(body) == MeshRequest(ignored=told)


def test_an_overlay_counts_beside_what_is_ignored() -> None:
    request = parse_request(f"{operator('profile: demo')}---\nkind: Secret\n")
    assert (request.profile, request.ignored) == ("demo", "Secret")


@pytest.mark.parametrize("case", BAD)
def test_a_bad_body_gets_its_error(case: str) -> None:
    body, kind, words = BAD[case]
    with pytest.raises(LifecycleError) as caught:
        parse_request(body)
    error = caught.value
    assert type(error) is kind
    assert words in error.summary
    assert error.cause
    assert error.remedy
    assert len(str(error)) < 1000


def test_an_unknown_profile_lists_those_that_there_are() -> None:
    with pytest.raises(ProfileUnknown) as caught:
        parse_request(operator("profile: huge"))
    assert ", ".join(PROFILES) in caught.value.summary


# ---- What is taken -------------------------------------------------------------------------------


@pytest.mark.parametrize("body", ["", "\n", "---\n", "# nothing\n", OPERATOR, OPTIONS])
def test_nothing_asks_for_the_defaults(body: str) -> None:
    assert parse_request(body) == MeshRequest()


def test_everything_can_be_said() -> None:
    request = parse_request(
        operator("profile: demo, revision: canary, hub: h, values: {a: 1}", namespace="mesh")
        + "---\n"
        + options("tags: [prod, test], force: true, purge: true, readinessTimeoutSeconds: 60")
    )
    assert request == MeshRequest(
        profile="demo",
        revision="canary",
        revision_given=True,
        tags=("prod", "test"),
        namespace="mesh",
        namespace_given=True,
        overlay={"hub": "h", "values": {"a": 1}},
        force=True,
        purge=True,
        readiness_timeout=timedelta(seconds=60),
    )


def test_the_namespace_is_said_as_istio_documents_it() -> None:
    values = "values: {global: {istioNamespace: mesh}}"
    for body in (operator(values), operator(values, namespace="mesh")):
        assert parse_request(body).namespace == "mesh"
        assert parse_request(body).namespace_given


@pytest.mark.parametrize(
    "body",
    [
        both("profile: demo, revision: a", ""),
        both("", "profile: demo, revision: a"),
        both("profile: demo, revision: a", "profile: demo, revision: a"),
        both("profile: demo", "revision: a"),
    ],
    ids=["overlay", "options", "both the same", "one each"],
)
def test_profile_and_revision_can_stand_in_either_document(body: str) -> None:
    request = parse_request(body)
    assert (request.profile, request.revision, request.overlay) == ("demo", "a", {})


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_taken(profile: str) -> None:
    assert parse_request(operator(f"profile: {profile}")).profile == profile


@pytest.mark.parametrize(
    ("spec", "tags"),
    [
        ("", None),
        ("tags: ~", None),
        ("tags: []", ()),
        ("tags: [b, a, b]", ("b", "a")),
        ("tags: [default]", ("default",)),
    ],
)
def test_no_tags_and_an_empty_list_of_tags_differ(spec: str, tags: tuple[str, ...] | None) -> None:
    assert parse_request(options(spec)).tags == tags


def test_the_unnamed_revision_can_be_named() -> None:
    named = parse_request(options("revision: default"))
    assert (named.revision, named.revision_given) == ("default", True)
    assert parse_request("").revision_given is False


@pytest.mark.parametrize("name", ["a", "1", "1-31-0", "a" * 56])
def test_good_revision_names(name: str) -> None:
    assert parse_request(operator(f"revision: '{name}'")).revision == name


# ---- Whatever else somebody sends ----------------------------------------------------------------

fields = st.sampled_from(
    ["profile", "revision", "tags", "force", "installPackagePath", "values", "hub", "x"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner, max_size=3),
    max_leaves=6,
)
documents = st.fixed_dictionaries(
    {
        "apiVersion": st.sampled_from(["install.istio.io/v1alpha1", "meshbus.io/v1"]) | values,
        "kind": st.sampled_from(["IstioOperator", "LifecycleOptions"]) | values,
    },
    optional={"spec": st.dictionaries(fields, values, max_size=3) | values, "metadata": values},
)


def answered(body: str) -> None:
    try:
        request = parse_request(body)
    except LifecycleError as error:
        text = str(error)
    else:
        assert request.profile in PROFILES
        assert "installPackagePath" not in request.overlay
        text = ""
    assert len(text) < 1000


@given(st.text(max_size=200))
def test_any_text_is_answered_with_our_errors(body: str) -> None:
    answered(body)


@given(st.lists(documents, max_size=3))
def test_any_documents_are_answered_with_our_errors(body: list[object]) -> None:
    answered(yaml.safe_dump_all(body, allow_unicode=True))
