"""That a node does without the parts of libp2p that it does not use, and that others get them."""

from __future__ import annotations

from tests.framework.interpreter import python

UNUSED = ("aioquic", "charset_normalizer", "coincurve", "Crypto", "requests", "zeroconf")


def test_a_transport_brings_none_of_what_it_does_not_use() -> None:
    found = python(
        "import sys, unchained.node.transport.libp2p.host, unchained.node.app",
        f"print([name for name in {(*UNUSED, 'numpy')} if name in sys.modules])",
    )
    assert found == "[]"


def test_who_wants_the_rest_of_libp2p_gets_it() -> None:
    found = python(
        "import unchained.node.transport.libp2p.host",
        "import libp2p, libp2p.crypto.rsa, libp2p.crypto.serialization as serialization",
        "from libp2p.crypto.secp256k1 import create_new_key_pair",
        "key = create_new_key_pair().public_key",
        "assert serialization.deserialize_public_key(key.serialize()).to_bytes() == key.to_bytes()",
        "assert isinstance(key, serialization.Secp256k1PublicKey)",
        "assert not isinstance(key, serialization.RSAPublicKey)",
        "assert not isinstance(key, libp2p.crypto.rsa.RSAPublicKey)",
        "from libp2p import new_host, peer",
        "from libp2p.transport import TCP",
        "assert new_host is libp2p.new_host",
        "assert isinstance(libp2p.crypto.rsa.RSAPublicKey, type)",
        "try:",
        "    libp2p.nothing",
        "except AttributeError as error:",
        "    print(error)",
    )
    assert found == "module 'libp2p' has no attribute 'nothing'"


def test_libp2p_that_is_there_already_is_left_alone() -> None:
    found = python(
        "import libp2p",
        "import unchained.node.transport.lean_libp2p as lean",
        "lean.defer_unused()",
        "print(callable(vars(libp2p)['new_host']))",
    )
    assert found == "True"
