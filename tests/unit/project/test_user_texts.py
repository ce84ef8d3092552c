"""What users read is there without docstrings too, which ``-OO`` strips."""

from __future__ import annotations

import os
import subprocess
import sys

from unchained.node.cli.main import COMMANDS

LIST = """
import json, sys
from unchained.node.base.config import commented_file, documentation
from unchained.node.cli.main import command_line, run
from unchained.node.rpc.core.openrpc import Discovery, describe
from unchained.node.rpc.core.registry import Registry
from unchained.node.rpc.methods.rooms import ROOMS

def walk(command, path):
    print("$", *path, flush=True)
    run([*path, "--help"])
    for name in getattr(command, "commands", {}):
        walk(command.made(name), [*path, name])

walk(command_line(), [])
print(json.dumps(describe(Registry(*ROOMS, Discovery), version="1"), indent=1))
print(commented_file(), documentation())
"""


def texts(*options: str) -> str:
    environment = {**os.environ, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    command = [sys.executable, *options, "-c", LIST]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def test_help_methods_and_settings_read_the_same_without_docstrings() -> None:
    plain = texts()
    for name in COMMANDS:
        assert f"$ {name}\n" in plain
    assert '"rpc.discover"' in plain
    assert texts("-OO").splitlines() == plain.splitlines()
