"""That a node does without what it does not use of libraries, and that others get it."""

from __future__ import annotations

import textwrap
from pathlib import Path

from tests.framework.interpreter import python

UNUSED = (
    "h2.connection", "h2.exceptions", "hpack", "hyperframe", "hypercorn.protocol.h2",
    "hypercorn.trio.run",
)  # fmt: skip
DEFERRED = "from unchained.node.base.deferred_modules import defer"


def test_a_server_brings_none_of_what_it_does_not_use() -> None:
    found = python(
        "import sys, unchained.node.rpc.node_server",
        f"print([name for name in {UNUSED} if name in sys.modules])",
    )
    assert found == "[]"


def test_who_wants_the_rest_of_a_package_gets_it() -> None:
    found = python(
        "import unchained.node.rpc.http.listener",
        "from hypercorn.protocol import H11Protocol, ProtocolWrapper",
        "from hypercorn.protocol.h11 import H11Protocol as by_its_own_name",
        "from hypercorn.trio import serve",
        "assert H11Protocol is by_its_own_name",
        "print(serve.__name__, ProtocolWrapper.__name__)",
    )
    assert found == "serve ProtocolWrapper"


def test_a_package_that_is_there_already_is_left_alone() -> None:
    found = python(
        "import hypercorn.trio, unchained.node.rpc.http",
        "print(callable(vars(hypercorn.trio)['serve']))",
    )
    assert found == "True"


def test_who_wants_the_rest_of_a_library_that_types_are_named_of_gets_it() -> None:
    found = python(
        "import unchained.node.rpc.node_server",
        "import h2.events",
        "from h2.connection import H2Connection",
        "print(type(H2Connection).__name__, h2.events.DataReceived.__name__)",
    )
    assert found == "type DataReceived"


def test_a_thread_that_wants_what_another_is_running_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / "gate.py").write_text(
        "import threading\nbegun = threading.Event()\ngo = threading.Event()\n"
    )
    (tmp_path / "slow.py").write_text(
        "import gate\ngate.begun.set()\ngate.go.wait()\nvalue = 'made'\n"
    )
    found = python(
        f"import sys, threading; sys.path.insert(0, {str(tmp_path)!r})",
        DEFERRED,
        "defer((), {'slow': ()})",
        "import gate, slow",
        "had = []",
        "def want():",
        "    try:",
        "        had.append(slow.value)",
        "    except AttributeError as error:",
        "        had.append(error)",
        "first, second = threading.Thread(target=want), threading.Thread(target=want)",
        "first.start()",
        "gate.begun.wait()",
        "second.start()",
        "second.join(0.2)",
        "gate.go.set()",
        "first.join()",
        "second.join()",
        "print(had)",
    )
    assert found == "['made', 'made']"


def test_a_module_that_failed_is_run_again(tmp_path: Path) -> None:
    (tmp_path / "frail.py").write_text(
        textwrap.dedent("""
            import sys
            sys.tries = getattr(sys, "tries", 0) + 1
            if sys.tries == 1:
                raise OSError("no more files")
            value = sys.tries
        """)
    )
    found = python(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})",
        DEFERRED,
        "defer((), {'frail': ()})",
        "import frail",
        "try:",
        "    frail.value",
        "except OSError as error:",
        "    print(error)",
        "print(frail.value)",
    )
    assert found.splitlines() == ["no more files", "2"]
