"""`python -m deploy.image`: builds the images with Docker, Podman or Buildah, whichever is there.

The base is a public slim image of the Python that runs this; `--base debian` makes one out of
Debian's packages instead, where no registry of images is reached.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from deploy.image.bases import debian_base
from deploy.image.contents import IMAGES, ROOT, project
from deploy.image.engines import EngineError, engine
from deploy.image.layout import LayoutError, lay_out

PUBLIC_BASE = f"docker.io/library/python:{sys.version_info[0]}.{sys.version_info[1]}-slim"


def main() -> int:
    arguments = _parser().parse_args()
    try:
        _build(arguments)
    except (EngineError, LayoutError) as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    return 0


def _build(arguments: argparse.Namespace) -> None:
    epoch, revision = int(_git("log", "-1", "--format=%ct")), _git("rev-parse", "HEAD")
    version = project()["version"]
    chosen = engine(arguments.engine, store=arguments.folder / "store")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    base = arguments.base
    if base == "debian":
        base = debian_base(chosen, arguments.folder, epoch=epoch)
    for image in IMAGES:
        if arguments.only and image.name not in arguments.only:
            continue
        context = arguments.folder / image.name
        _say(f"{image.name}: laying out")
        lay_out(image, context / "tree", cache=_cache(), epoch=epoch)
        tag = f"{arguments.repository}/{image.name}:{version}"
        labels = {"TITLE": f"meshbus-{image.name}", "VERSION": version, "REVISION": revision}
        _say(f"{image.name}: building {tag} on {base}")
        chosen.build(context, tag=tag, arguments={"BASE": base, **labels}, epoch=epoch)
        if arguments.archives:
            file = arguments.folder / f"meshbus-{image.name}-{version}.tar"
            chosen.save(tag, file)
            _say(f"{image.name}: {file}, {file.stat().st_size / 1e6:.0f} MB")


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "meshbus" / "image"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def _say(text: str) -> None:
    print(text, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.image", description=__doc__)
    names = [image.name for image in IMAGES]
    parser.add_argument("--only", choices=names, action="append", help="default: both")
    parser.add_argument("--engine", choices=("docker", "podman", "buildah"), help="default: found")
    parser.add_argument("--base", default=PUBLIC_BASE, help="default: %(default)s; or `debian`")
    parser.add_argument("--repository", default="meshbus", help="default: %(default)s")
    parser.add_argument("--archives", action="store_true", help="also write each as a file")
    folder = ROOT / ".run" / "image"
    parser.add_argument("--folder", type=Path, default=folder, help="default: .run/image")
    return parser


if __name__ == "__main__":
    sys.exit(main())
