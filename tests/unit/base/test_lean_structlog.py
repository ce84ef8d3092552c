"""That a node whose log is JSON does without Rich, and that whoever draws has it."""

from __future__ import annotations

from tests.framework.interpreter import python

NODE = "import sys, unchained.node.app, unchained.node.cli.start, unchained.node.rpc.node_server"


def test_a_node_whose_log_is_json_brings_no_rich() -> None:
    found = python(
        NODE,
        "from unchained.node.base.clock import SystemClock",
        "from unchained.node.base.logs import open_logs",
        "with open_logs(clock=SystemClock(), stream=sys.stdout, json=True) as logs:",
        "    pass",
        "print([name for name in sys.modules if name.split('.')[0] in ('rich', 'pygments')])",
    )
    assert found == "[]"


def test_whoever_draws_has_it() -> None:
    found = python(
        NODE,
        "import structlog.dev",
        "assert structlog.dev.rich is None",
        "from rich.text import Text",
        "from unchained.node.base.log_lines import event_line",
        "line = event_line({'time': 't', 'level': 'info', 'event': 'e'})",
        "assert type(line) is Text",
        "import rich",
        "print(rich.__name__)",
    )
    assert found == "rich"


def test_structlog_has_what_is_there_before_it() -> None:
    found = python(
        "import rich, unchained.node.base.logs, structlog.dev",
        "print(structlog.dev.rich is rich)",
    )
    assert found == "True"


def test_structlog_shows_what_failed_without_it() -> None:
    found = python(
        "import unchained.node.base, structlog",
        "try:",
        "    1 / 0",
        "except ZeroDivisionError:",
        "    structlog.get_logger().exception('failed')",
    )
    assert "ZeroDivisionError: division by zero" in found


def test_who_only_looks_for_it_does_not_bring_rich_back() -> None:
    found = python(
        "import sys, importlib.util",
        "from unchained.node.base.lean_structlog import spare_rich",
        "spare_rich()",
        "print(importlib.util.find_spec('structlog.dev').name)",
        "import structlog.dev",
        "left = [one for one in sys.meta_path if 'lean' in type(one).__module__]",
        "print('rich' in sys.modules, left)",
    )
    assert found.splitlines() == ["structlog.dev", "False []"]
