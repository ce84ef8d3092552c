"""The wallet: how fast it finds its coins, and how fast it pays from very many of them."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.framework.wallets import CHEAP, Purse, WalletChain, cheap_wallet
from unchained.node.consensus.params import REG
from unchained.node.crypto.addresses import NO_TAG, OutputPlace, Paycode, address_lock, seal_note
from unchained.node.crypto.keys import encapsulate
from unchained.node.primitives.transfer import Input, Output, Signature, SizedTransfer, Transfer
from unchained.node.primitives.types import CoinId
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.keystore import Keystore, new_secret
from unchained.node.wallet.new_wallet import save_new
from unchained.node.wallet.recogniser import FoundCoin
from unchained.node.wallet.records import Origin, Payee
from unchained.node.wallet.wallet import Wallet

COINS = 200_000
TRANSFERS = 2_000
ANCHORS = 2_000
RUNS = 5


def run() -> list[dict[str, object]]:
    """Measure."""
    return [_outputs(), _sends(), _restore()]


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _cpu(work: Callable[[], object]) -> float:
    """Return the seconds of processor time, of all threads."""
    began = time.process_time()
    work()
    return time.process_time() - began


def _result(
    name: str,
    unit: str,
    values: list[float],
    reference: str,
    reference_median: float,
    goal: str,
    met: bool,
) -> dict[str, object]:
    median = statistics.median(values)
    return {
        "name": name,
        "unit": unit,
        "median": median,
        "min": min(values),
        "max": max(values),
        "runs": len(values),
        "reference": reference,
        "reference_median": reference_median,
        "ratio": median / reference_median,
        "goal": goal,
        "met": met,
    }


def _outputs() -> dict[str, object]:
    """Outputs to paycodes of others, in transfers of two, one view key; by processor time."""
    wallet, other = cheap_wallet(), cheap_wallet().account()
    code = Paycode(REG.chain_id, other.key_hash, other.view.public_key)
    rng = random.Random(1)
    sealed = [seal_note(code, OutputPlace(bytes(32), 0), b"memo") for _ in range(64)]
    transfers = []
    for _ in range(TRANSFERS):
        outputs = tuple(Output(10**8, s.lock, s.note) for s in rng.sample(sealed, 2))
        spent = (Input(rng.randbytes(32), rng.randbytes(33), rng.randbytes(32)),)
        signature = Signature(rng.randbytes(1_952), rng.randbytes(3_309))
        transfer = Transfer(1, REG.chain_id, 0, 9, spent, outputs, (signature,), ())
        transfers.append(SizedTransfer.of(transfer))
    recogniser = wallet._recogniser

    def scan() -> None:
        for start in range(0, TRANSFERS, 500):
            recogniser.transfers([(sized, 1, 0) for sized in transfers[start : start + 500]])

    view = wallet.account().view
    _, ciphertext = encapsulate(view.public_key)

    def bare() -> None:
        for _ in range(2 * TRANSFERS):
            view.decapsulate(ciphertext)

    pairs = [(_cpu(scan), _cpu(bare)) for _ in range(RUNS)]
    rates = [2 * TRANSFERS / seconds for seconds, _ in pairs]
    reference = statistics.median(2 * TRANSFERS / seconds for _, seconds in pairs)
    median = statistics.median(rates)
    return _result(
        "wallet.scan_outputs_of_a_core",
        "outputs/s",
        rates,
        "ML-KEM decapsulations/s of a core",
        reference,
        "20,000 outputs/s",
        median >= 20_000,
    )


def _sends() -> dict[str, object]:
    """Choose, sign and note a payment of 700 UNC from a wallet of 200,000 small coins on disk."""
    with tempfile.TemporaryDirectory() as directory:
        save_new(Keystore.create(REG, new_secret(), "pass", cost=CHEAP), Path(directory), "many")
        wallet = Wallet.open(Path(directory), "many", REG)
        wallet.unlock("pass")
        rng = random.Random(2)
        lock = address_lock(wallet.account().key_hash)
        wallet.store.connect(
            [(10, bytes(32))],
            [
                FoundCoin(
                    CoinId(rng.randbytes(32)),
                    0,
                    Origin.ADDRESS,
                    rng.randrange(10**5, 10**8),
                    lock,
                    rng.randbytes(32),
                    0,
                    1,
                    0,
                    bytes(32),
                    NO_TAG,
                    b"",
                )
                for _ in range(COINS)
            ],
            (),
            keep=100,
        )
        to = cheap_wallet().paycode()

        def send() -> None:
            prepared = wallet.spender.pay([Payee(to, 700 * 10**8, b"")], Fee(1))
            transfer = wallet.finish(prepared)
            wallet.record(transfer, 0, payees=prepared.payees, change=prepared.change)

        times = [_timed(send) * 1_000 for _ in range(RUNS)]
        balances = statistics.median(_timed(wallet.balance) * 1_000 for _ in range(RUNS))
        wallet.close()
    return _result(
        "wallet.send_of_200000_coins",
        "ms",
        times,
        "balance of the same wallet, ms",
        balances,
        "at most 300 ms",
        statistics.median(times) <= 300,
    )


def _restore() -> dict[str, object]:
    """Read a chain of minted coins, 16 to an anchor, half of them the wallet's own."""
    chain = WalletChain()
    secret = new_secret()
    miner = Purse(chain, cheap_wallet(secret=secret))
    stranger = cheap_wallet().payout().lock_for
    for _ in range(ANCHORS // 10):
        chain.mine(*[miner.mine_to, stranger] * 8)
    rates = []
    for _ in range(3):
        restored = Purse(chain, cheap_wallet(secret=secret))
        seconds = _timed(restored.sync)
        rates.append(chain.height / seconds)
    return _result(
        "wallet.restore",
        "anchors/s",
        rates,
        "anchors/s that restore 100,000 in ten minutes",
        100_000 / 600,
        "100,000 anchors in ten minutes",
        statistics.median(rates) >= 100_000 / 600,
    )
