"""Wallets that are made of the words of others, which had several accounts."""

from __future__ import annotations

from tests.framework.wallets import CHEAP, Purse, WalletChain, cheap_wallet
from unchained.node.consensus.params import REG
from unchained.node.wallet.keystore import Keystore, SpendSecret, new_secret
from unchained.node.wallet.wallet import Wallet
from unchained.node.wallet.wallet_file import MAX_ACCOUNTS

UNC = 10**8


def restored(secret: SpendSecret, accounts: int = 1, birth: int = 0) -> Wallet:
    """Return a wallet as it is made of its words."""
    keystore = Keystore.create(
        REG, secret, "pass", accounts=accounts, birth=birth, look_further=True, cost=CHEAP
    )
    read = Keystore.from_bytes(keystore.to_bytes(), REG)
    assert read == keystore
    return Wallet("again", REG, read, None)


class Past:
    """A wallet of many accounts, some of which were paid, in some order."""

    def __init__(self, paid: list[int], accounts: int = MAX_ACCOUNTS) -> None:
        self.chain = WalletChain()
        self.secret = new_secret()
        self.old = Purse(self.chain, cheap_wallet(secret=self.secret, accounts=accounts))
        payer = Purse(self.chain, cheap_wallet("payer"))
        self.chain.grow(3, payer.mine_to)
        payer.sync()
        for at in paid:
            to = self.old.wallet.paycode(at) if at % 2 else self.old.wallet.address(at)
            payer.pay(to, UNC // 50)
            self.chain.mine(payer.mine_to)
            payer.sync()
        self.old.sync()

    def read(self, wallet: Wallet) -> Wallet:
        Purse(self.chain, wallet).sync()
        return wallet
