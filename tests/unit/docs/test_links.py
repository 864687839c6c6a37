"""Every link of a page leads somewhere: to a file of the repository, and to a heading in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import site

_HEADING = re.compile(r"^#+ (.+)$", re.M)


@pytest.mark.parametrize("page", site.pages(), ids=str)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in site.links(page):
        path, _, anchor = link.partition("#")
        target = (site.ROOT / page.parent / path).resolve() if path else site.ROOT / page
        # A folder has no page of its own on a site.
        assert target.is_file(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("page", site.pages(), ids=str)
def test_a_page_begins_with_its_title(page: Path) -> None:
    assert (site.ROOT / page).read_text().startswith("# ")


def test_every_page_has_a_chapter() -> None:
    places = {page.parent for page in site.pages()}
    chapters = {Path("docs", folder) for folder in site.CHAPTERS.values()}
    assert places <= {Path(), Path("docs"), *chapters}


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    words = (heading.lower() for heading in _HEADING.findall(without_code))
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in words}
