"""What a signature takes out of a wallet, counted against the limit of whoever asks for it."""

from __future__ import annotations

from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.wallet import spending
from unchained.node.wallet.errors import NoSuchCoinError
from unchained.node.wallet.recogniser import CONTRACT_ACCOUNT, Recogniser
from unchained.node.wallet.unsigned import Unsigned
from unchained.node.wallet.wallet_store import WalletStore


def count(
    unsigned: Unsigned,
    store: WalletStore,
    recogniser: Recogniser,
    *,
    replaces: bytes = b"",
    handed_out: bool = False,
) -> None:
    """Count a transfer that is about to be signed: what it spends less what comes back to the
    accounts of the wallet. `replaces` is the txid of the one whose place it takes; one that is not
    sent at once but `handed_out` may be sent at any time.

    Raises `SpendingLimitError`, `TooManySignedError`, `NoSuchCoinError` for a coin that is frozen,
    or where one is to be handed out that spends no coin that the wallet knows.
    """
    if not spending.is_limited():
        return
    coins = [spent.coin_id for spent in unsigned.inputs]
    store.check_not_frozen(coins)
    sized = SizedTransfer.of(unsigned.transfer())
    back = sum(
        coin.value
        for coin in recogniser.transfer(sized, None, 0).found
        if coin.account != CONTRACT_ACCOUNT
    )
    spending.settle(store)
    amount = max(sum(unsigned.values) - back, 0)
    coin = store.first_known(coins) if handed_out else b""
    if coin is None:
        # what becomes of them would never be known, and it would count for ever
        raise NoSuchCoinError(
            "the wallet knows none of the coins that it would sign for: a token spends only those "
            "that the wallet has read or that a contract holds which it watches"
        )
    spending.reserve(sized.txid, amount, replaces, coin)
