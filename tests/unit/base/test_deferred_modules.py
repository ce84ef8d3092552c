"""That a node does without what it does not use of libraries, and that others get it."""

from __future__ import annotations

from tests.framework.interpreter import python

UNUSED = ("h2.connection", "hpack", "hypercorn.protocol.h2", "hypercorn.trio.run")


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
