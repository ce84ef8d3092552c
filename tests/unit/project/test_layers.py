"""scripts/layers: the list and the picture of the layers say what the contract says."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[3]

CONTRACT = """
[[tool.importlinter.contracts]]
name = "imports point down"
type = "layers"
layers = ["unchained.node.app", "unchained.node.chain | unchained.miner"]
ignore_imports = ["unchained.miner -> unchained.node.chain"]

[[tool.importlinter.contracts]]
name = "a pure kernel"
type = "forbidden"
source_modules = ["unchained.node.chain"]
forbidden_modules = ["trio", "time"]

[[tool.importlinter.contracts]]
name = "knows no room"
type = "forbidden"
source_modules = ["unchained.node.base"]
forbidden_modules = ["unchained.node.chain"]
"""


@pytest.fixture(scope="module")
def layers() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("layers_script", str(ROOT / "scripts/layers"))
    spec = importlib.util.spec_from_loader("layers_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path, layers: ModuleType) -> Path:
    for name, text in {
        "pyproject.toml": CONTRACT,
        "node/app.py": '"""Joins <all>: and more (Protocol §1)."""',
        "node/chain/__init__.py": '"""The chain.\n\nAt length."""',
        "miner/__init__.py": "",
        layers.TEXT: f"before\n{layers.BEGIN}\nold\n{layers.END}\nafter\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_the_files_are_as_the_contract(layers: ModuleType) -> None:
    """After a change: scripts/layers"""
    for name, text in layers.made(ROOT).items():
        assert (ROOT / name).read_text() == text


def test_draws_a_contract(layers: ModuleType, tree: Path) -> None:
    files = layers.made(tree)
    assert files[layers.TEXT] == (
        f"before\n{layers.BEGIN}\n```\nnode/app.py\nnode/chain | miner\n```\n\nExcepted:\n\n"
        f"- `miner` imports `node/chain`\n{layers.END}\nafter\n"
    )
    picture = ElementTree.fromstring(files[layers.PICTURE])
    texts = {step.text for step in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"node/app.py", "Joins <all>: and more", "node/chain", "The chain", "miner"} <= texts
    drawn = [step.get("class") for step in picture.iter("{http://www.w3.org/2000/svg}rect")]
    assert drawn == [None, "room face", "room pure", "room work"]


def test_refuses_what_it_cannot_draw(layers: ModuleType, tree: Path) -> None:
    (tree / layers.TEXT).write_text("no marks")
    with pytest.raises(ValueError, match="marks"):
        layers.made(tree)
    (tree / "pyproject.toml").write_text(CONTRACT.replace("node.app", "node.gone"))
    with pytest.raises(ValueError, match=r"no module unchained\.node\.gone"):
        layers.made(tree)
