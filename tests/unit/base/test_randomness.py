"""One source of randomness in the product, and one for simulations that a seed decides."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.framework.simulation.seeded_randomness import SeededRandomness
from tests.framework.wallets import Purse, WalletChain
from unchained.node.base.randomness import SYSTEM
from unchained.node.consensus.params import REG
from unchained.node.crypto.keys import SpendKey, ViewKey, encapsulate, verify_signature
from unchained.node.wallet.keystore import Keystore, new_secret
from unchained.node.wallet.wallet import Wallet
from unchained.node.wallet.wallet_file import KdfCost

ROOT = Path(__file__).parents[3]
SOURCE = "node/base/randomness.py"


def uses(tree: ast.Module) -> Iterator[str]:
    """Yield what a module takes of the system's randomness, annotations left out."""
    hints = {
        id(part)
        for node in ast.walk(tree)
        for hint in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if hint is not None
        for part in ast.walk(hint)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                yield from (
                    f"import {name.name}" for name in names if name.name in ("secrets", "uuid")
                )
            case ast.ImportFrom(module=("secrets" | "random" | "uuid") as module):
                yield f"from {module}"
            case ast.ImportFrom(module="os", names=names):
                yield from (f"os.{name.name}" for name in names if "random" in name.name)
            case ast.Attribute(value=ast.Name("random"), attr=name) if id(node) not in hints:
                yield f"random.{name}"
            case ast.Attribute(value=ast.Name("os"), attr=("urandom" | "getrandom") as name):
                yield f"os.{name}"


def test_nothing_else_of_the_product_asks_the_system_for_random_bytes() -> None:
    found = {
        str(path.relative_to(ROOT)): names
        for room in ("node", "miner", "storage")
        for path in sorted((ROOT / room).rglob("*.py"))
        if (names := list(uses(ast.parse(path.read_text()))))
    }
    assert found.pop(SOURCE)
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "import secrets",
        "from os import urandom",
        "import os\nos.urandom(3)",
        "import random\nrandom.Random(3)",
        "from random import choice",
        "import uuid",
    ],
)
def test_whatever_asks_for_it_is_seen(text: str) -> None:
    assert list(uses(ast.parse(text)))


def test_a_generator_that_is_handed_in_is_none_of_it() -> None:
    text = "import random\ndef f(rng: random.Random) -> random.Random: return rng"
    assert not list(uses(ast.parse(text)))


def test_a_seeded_signature_is_the_same_each_time_and_verifies() -> None:
    key = SpendKey.from_seed(bytes(range(32)))
    made = {key.sign(bytes(32), SeededRandomness("any")) for _ in range(2)}
    assert len(made) == 1
    assert verify_signature(key.public_key, bytes(32), made.pop())
    assert key.sign(bytes(32), SYSTEM) != key.sign(bytes(32), SYSTEM)


def test_a_seeded_ciphertext_is_the_same_each_time_and_opens() -> None:
    key = ViewKey.from_seed(bytes(range(64)))
    made = {encapsulate(key.public_key, SeededRandomness("any")) for _ in range(2)}
    assert len(made) == 1
    shared, ciphertext = made.pop()
    assert key.decapsulate(ciphertext) == shared
    assert encapsulate(key.public_key, SYSTEM) != encapsulate(key.public_key, SYSTEM)


def paid(seed: str) -> tuple[bytes, bytes, list[bytes]]:
    """Return a wallet's file, the transfer that it makes, and what it seals on disk."""
    randomness = SeededRandomness(seed)
    keystore = Keystore.create(
        REG, new_secret(randomness), "pass", cost=KdfCost(32, 1, 1), randomness=randomness
    )
    wallet = Wallet("w", REG, keystore, None, randomness)
    wallet.unlock("pass")
    chain = WalletChain()
    purse = Purse(chain, wallet)
    chain.grow(REG.maturity + 3, purse.mine_to)
    purse.sync()
    outgoing = purse.pay(wallet.paycode(), 10**8, b"memo")
    sealed = [row[0] for row in wallet.store.rows("SELECT secret FROM outgoing")]
    return keystore.to_bytes(), outgoing.raw, sealed


def test_a_wallet_does_the_same_for_the_same_seed() -> None:
    assert paid("one") == paid("one")
    for one, other in zip(paid("one"), paid("other"), strict=True):
        assert one != other
