"""What is installed is what is on disk, and what is locked is what is declared."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from unchained.node.base.version import NODE_VERSION

ROOT = Path(__file__).parents[3]
ROOMS = ("miner", "node", "storage")


def project() -> dict[str, object]:
    document: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return document


def at(document: object, *path: str) -> object:
    for name in path:
        assert isinstance(document, dict)
        document = document[name]
    return document


def test_the_version_is_that_of_the_package() -> None:
    assert at(project(), "project", "version") == NODE_VERSION


def test_every_package_on_disk_is_listed() -> None:
    on_disk = {
        "unchained." + ".".join(init.parent.relative_to(ROOT).parts)
        for room in ROOMS
        for init in (ROOT / room).rglob("__init__.py")
    }
    listed = at(project(), "tool", "setuptools", "packages")
    assert isinstance(listed, list)
    assert sorted(on_disk) == listed


def test_every_module_is_in_a_package() -> None:
    loose = [
        path
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if not (path.parent / "__init__.py").exists()
    ]
    assert loose == []


def test_every_package_is_checked_for_types() -> None:
    checked = re.search(r"for part in (.+); do", (ROOT / "scripts/check").read_text())
    assert checked is not None
    assert sorted(checked[1].split()) == sorted(ROOMS)


def test_every_requirement_is_locked_with_hashes() -> None:
    run = at(project(), "project", "dependencies")
    dev = at(project(), "project", "optional-dependencies", "dev")
    assert isinstance(run, list)
    assert isinstance(dev, list)
    for file, declared in (("requirements.lock", run), ("requirements-dev.lock", run + dev)):
        text = (ROOT / file).read_text()
        locked = re.findall(r"^([A-Za-z0-9._-]+)==\S+.* \\\n    --hash=sha256:", text, re.MULTILINE)
        assert len(locked) == len(re.findall(r"^\S+==", text, re.MULTILINE))
        names = {re.sub(r"[-_.]+", "-", name).lower() for name in locked}
        for requirement in declared:
            name = re.split(r"[\[<>=!~ ;]", requirement)[0]
            assert re.sub(r"[-_.]+", "-", name).lower() in names, (file, requirement)


def test_both_locks_agree() -> None:
    def versions(file: str) -> set[str]:
        return set(re.findall(r"^[^ ]+==[^ ]+", (ROOT / file).read_text(), re.MULTILINE))

    assert versions("requirements.lock") <= versions("requirements-dev.lock")
