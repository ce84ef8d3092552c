"""What pages load is small, whole, of this machine, and installed with the node."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

from unchained.node.rpc.web.static_files import STATIC_BYTES_MAX, StaticFiles

ROOT = Path(__file__).parents[3]
WEB = ROOT / "node/rpc/web"


def test_all_files_together_are_small() -> None:
    total = sum(path.stat().st_size for path in (WEB / "static").iterdir())
    assert total <= STATIC_BYTES_MAX == 200 * 1024


def test_every_file_is_served_and_nothing_else() -> None:
    files = StaticFiles()
    names = {path.name for path in (WEB / "static").iterdir()}
    assert set(files) == names
    for name in names:
        found = files.find(name)
        assert found is not None
        assert found.body == (WEB / "static" / name).read_bytes()
    for name in ("", ".", "..", "../site.py", "page", "nothing.js", "/etc/passwd"):
        assert files.find(name) is None


def test_nothing_is_inline_and_nothing_comes_from_another_host() -> None:
    for path in [*(WEB / "static").iterdir(), *(WEB / "templates").iterdir()]:
        text = path.read_text()
        # The names of XML's own vocabularies are no addresses.
        text = text.replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z]+\.[a-z]|@import|url\(", text), path
        if path.suffix == ".html":
            assert not re.search(
                r"<style|\sstyle=|\son[a-z]+=|javascript:|\|safe|\|tojson", text
            ), path
            scripts = re.findall(r"<script[^>]*>[^<]*", text)
            assert all(script.endswith(">") and "src=" in script for script in scripts), path


def test_a_wheel_holds_templates_and_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    source = tmp_path / "source"
    # Without what lies about in a working tree: a wheel takes over an old build folder.
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        held = set(packed.namelist())
    for folder in ("static", "templates"):
        for path in (WEB / folder).iterdir():
            assert f"unchained/node/rpc/web/{folder}/{path.name}" in held
