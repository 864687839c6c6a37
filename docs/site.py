"""Makes the documentation a site: `make site` writes it to `dist/site`.

    python -m docs.site [FOLDER]

The pages are the repository's own files, at the paths that they have there, so that a link which
leads somewhere on the site does so in a checkout too. Pages written for a site of their own were
rejected: two texts of one thing, and one of them is old. MkDocs takes a link, an anchor or a page
without its place for an error.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "dist" / "site"
CHAPTERS = {
    "Tutorial": "tutorial",
    "How-to": "how-to",
    "Reference": "reference",
    "Explanation": "explanation",
    "Decisions": "decisions",
}
"""The kinds of pages and the folder of each in `docs`."""
PROJECT = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
"""Pages at the top of the repository, beside its README."""
_STYLE = Path("docs", "site.css")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.M | re.S)


def pages() -> list[Path]:
    """Every page, relative to the repository."""
    found = [ROOT / name for name in ("README.md", *PROJECT)]
    found += sorted((ROOT / "docs").rglob("*.md"))
    return [path.relative_to(ROOT) for path in found]


def of_chapter(folder: str) -> list[Path]:
    """The pages of a chapter as they are read: its index first, the others by name."""
    found = [page for page in pages() if page.parent == Path("docs", folder)]
    return sorted(found, key=lambda page: (page.name != "README.md", page.name))


def title(page: Path) -> str:
    """The first heading of a page."""
    return (ROOT / page).read_text().partition("\n")[0].removeprefix("# ").strip()


def links(page: Path) -> Iterator[str]:
    """Where the links of a page lead that lead into the repository, with their anchors."""
    for target in _LINK.findall(_CODE.sub("", (ROOT / page).read_text())):
        if not re.match(r"[a-z]+:", target):
            yield target


def build(site: Path = SITE) -> int:
    """Writes the site; the exit status of MkDocs, which has said what is wrong."""
    with tempfile.TemporaryDirectory(prefix="meshbus-site-") as folder:
        source = Path(folder, "source")
        for path in {*pages(), *_linked_files(), _STYLE}:
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, source / path)
        # JSON is YAML too.
        Path(folder, "mkdocs.yml").write_text(json.dumps(_configuration(source, site)))
        # With --quiet MkDocs would count no warnings, and --strict would let them pass.
        done = subprocess.run(
            [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean"],
            cwd=folder,
            env={**os.environ, "SOURCE_DATE_EPOCH": _moment()},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if not line.startswith("INFO")]
        print("\n".join(told), file=sys.stderr)
    return done.returncode


def _linked_files() -> Iterator[Path]:
    """Pictures, schemas and values that pages link to."""
    for page in pages():
        for target in links(page):
            path = (ROOT / page.parent / target.partition("#")[0]).resolve()
            if path.is_file() and path.suffix != ".md":
                yield path.relative_to(ROOT)


def _configuration(source: Path, site: Path) -> dict[str, object]:
    chapters = [
        {name: [str(page) for page in of_chapter(folder)]} for name, folder in CHAPTERS.items()
    ]
    return {
        "site_name": "Meshbus",
        "docs_dir": str(source),
        "site_dir": str(site.resolve()),
        # So that it can be read from a disk as well.
        "use_directory_urls": False,
        # Nothing is fetched from elsewhere when somebody reads it.
        "theme": {"name": "readthedocs", "highlightjs": False},
        "extra_css": [str(_STYLE)],
        "plugins": ["search"],
        "markdown_extensions": [
            "tables",
            "fenced_code",
            "sane_lists",
            {"toc": {"permalink": True}},
        ],
        "nav": [
            {"Meshbus": "README.md"},
            *(chapter for chapter in chapters if all(chapter.values())),
            {"Project": ["docs/README.md", *PROJECT]},
        ],
        "validation": {
            "nav": {"omitted_files": "warn", "not_found": "warn"},
            "links": {
                "not_found": "warn",
                "anchors": "warn",
                "absolute_links": "warn",
                "unrecognized_links": "warn",
            },
        },
    }


def _moment() -> str:
    """When the commit was made: the same commit gives the same bytes."""
    asked = ["git", "log", "-1", "--format=%ct"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "0"


def main() -> int:
    site = Path(sys.argv[1]) if len(sys.argv) > 1 else SITE
    status = build(site)
    if status == 0:
        print(f"wrote {site}: open {site / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
