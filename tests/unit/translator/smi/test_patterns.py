"""Regular expressions: SMI's meaning against the form that Istio gets."""

from __future__ import annotations

import pytest
import re2  # type: ignore[import-untyped]  # the package has no types
from hypothesis import given
from hypothesis import strategies as st

from services.translator.smi.patterns import Wild, anchored, path_globs, problem_of, value_globs

atoms = st.sampled_from(["/", "a", "b", "/a", r"\.", r"\$", ".", "[ab]", "[^/]", r"\w", "^", "$"])
quantified = st.builds(
    "".join, st.tuples(atoms, st.sampled_from(["", "", "", "*", "+", "?", "*?"]))
)
patterns = st.recursive(
    st.lists(quantified, max_size=4).map("".join),
    lambda inner: st.one_of(
        st.builds("({}){}".format, inner, st.sampled_from(["", "*", "?"])),
        st.builds("(?:{})".format, inner),
        st.builds("{}|{}".format, inner, inner),
        st.builds("{}{}".format, inner, inner),
        st.builds("^{}$".format, inner),
        st.builds("(?i){}".format, inner),
    ),
    max_leaves=5,
)
paths = st.text(alphabet="/ab.$", max_size=6).map("/{}".format)


def compiled(pattern: str) -> re2._Regexp | None:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error:
        return None


@given(patterns, paths)
def test_the_anchored_form_means_what_smi_means(pattern: str, path: str) -> None:
    smi = compiled(pattern)
    if smi is None:
        assert problem_of(pattern)
        return
    assert problem_of(pattern) == ""
    istio = compiled(anchored(pattern))
    assert istio is not None
    assert (istio.fullmatch(path) is not None) is (smi.match(path) is not None)


ANCHORED = {
    "/x": "(?:/x).*",
    "^/x": "(?:/x).*",
    "/x$": "(?:/x)",
    "^/x$": "(?:/x)",
    r"/x\$": r"(?:/x\$).*",
    r"/x\\$": r"(?:/x\\)",
    "/a|/b$": "(?:/a|/b$).*",
    "^/a|^/b": "(?:^/a|^/b).*",
    "^*a": "(?:^*a).*",
    "": "(?:).*",
}


@pytest.mark.parametrize("pattern", ANCHORED)
def test_anchored(pattern: str) -> None:
    assert anchored(pattern) == ANCHORED[pattern]


PROBLEMS = {
    "(": "is no regular expression that RE2 reads: missing )",
    "a(?=b)": "is no regular expression that RE2 reads",
    r"\1": "is no regular expression that RE2 reads",
    r"/\Qx": "is no regular expression that RE2 reads",
    "\ud800": "is no regular expression that RE2 reads",
    "a" * 1020: "has more than the 1024 characters",
    "((a{100}){100}){100}": "is no regular expression that RE2 reads",
    r"\pL{100}": "needs a larger program than Envoy takes",
}


@pytest.mark.parametrize("pattern", PROBLEMS)
def test_problems(pattern: str) -> None:
    assert problem_of(pattern).startswith(PROBLEMS[pattern])


def test_no_problem() -> None:
    assert problem_of("^(.*?;)?(type=insider)(;.*)?$") == ""


def test_paths_are_open_at_their_end_and_headers_are_not() -> None:
    assert path_globs("/a") == (("/a", Wild.ANY),)
    assert value_globs("/a") == (("/a",),)


@pytest.mark.parametrize(
    "pattern", ["(a|b)" * 7, "(" * 21 + ")" * 21, "a^b", "a$b", "(?P<n>a)", "a)"]
)
def test_what_is_too_much_is_not_guessed_at(pattern: str) -> None:
    assert path_globs(pattern) is None


@given(st.text(alphabet="/a.*+?[]^$|(){}\\:", max_size=20))
def test_any_text_can_be_asked_about(pattern: str) -> None:
    if path_globs(pattern) is not None:
        assert compiled(pattern) is not None
