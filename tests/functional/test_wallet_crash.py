"""A wallet's file after its process was killed at any instant: the state before or after."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.framework.wallets import CHEAP
from unchained.node.consensus.params import REG
from unchained.node.wallet.keystore import Keystore, new_secret
from unchained.node.wallet.new_wallet import save_new
from unchained.node.wallet.wallet import Wallet

VALUE = 1_000
PER_ANCHOR = 5

CHILD = """
import hashlib, sys
from pathlib import Path
from unchained.node.consensus.params import REG
from unchained.node.primitives.types import CoinId, Lock
from unchained.node.wallet.records import Origin
from unchained.node.wallet.recogniser import FoundCoin
from unchained.node.wallet.wallet import Wallet

wallet = Wallet.open(Path(sys.argv[1]), "w", REG)
last = wallet.store.last_anchor()
height = 0 if last is None else last[0]
while True:
    height += 1
    found = [
        FoundCoin(
            CoinId(hashlib.sha256(b"%d %d" % (height, at)).digest()), 0, Origin.MINTED, 1000,
            Lock(bytes(32)), b"", 0, height, 0, bytes(32), bytes(8), b"",
        )
        for at in range(5)
    ]
    wallet.store.connect([(height, bytes(32))], found, (), keep=100)
    print(height, flush=True)
"""


@pytest.mark.parametrize("seed", range(3))
def test_killed_while_it_writes(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    save_new(Keystore.create(REG, new_secret(), "pass", cost=CHEAP), tmp_path, "w")
    printed = 0
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        printed = int(child.stdout.readline())
        time.sleep(rng.random() / 20)  # at whatever instant: nothing waits for it
        child.send_signal(signal.SIGKILL)
        printed = max([printed, *(int(line) for line in child.stdout.read().splitlines() if line)])
        child.stdout.close()
        child.wait()
        wallet = Wallet.open(tmp_path, "w", REG)
        last = wallet.store.last_anchor()
        assert last is not None
        # what was reported is there; at most one more that was not
        assert printed <= last[0] <= printed + 1
        assert wallet.balance().on_chain == last[0] * PER_ANCHOR * VALUE
        wallet.close()
