"""wallet.contract_*: contracts as wallets of their own, and files of several signers."""

from __future__ import annotations

from typing import Annotated

import msgspec

from unchained.node.base.user_text import user_text
from unchained.node.rpc.core.errors import WalletRefusedError
from unchained.node.rpc.core.registry import Access, Scope, method
from unchained.node.rpc.core.values import Amount, Hash, Hex
from unchained.node.rpc.methods.parameters import Limit, Offset
from unchained.node.rpc.methods.payment import ContractLock
from unchained.node.rpc.methods.wallet_shapes import (
    BalanceInfo,
    ContractInfo,
    UnsignedTransfer,
    WalletName,
)
from unchained.node.wallet.contract_wallet import ContractEntry, ContractWallet, contract_history
from unchained.node.wallet.keystore import DEFAULT_WALLET
from unchained.node.wallet.manager import WalletManager
from unchained.node.wallet.payment_request import LOCK_PREFIX
from unchained.node.wallet.unsigned import Unsigned, merge_files
from unchained.node.wallet.wallet import Wallet


@user_text(
    """A contract as a wallet of its own: where it is paid (`contract.text`, which names its terms,
    or `payee`, its lock alone), what it has, and where it stands in words. `own_keys` of its keys
    are the wallet's."""
)
class ContractState(msgspec.Struct, frozen=True):
    contract: ContractInfo
    payee: str
    balance: BalanceInfo
    status: str
    own_keys: list[Hash]

    @classmethod
    def of(cls, found: ContractWallet) -> ContractState:
        """Describe a contract."""
        balance = found.balance
        return cls(
            ContractInfo.of(found.watched),
            f"{LOCK_PREFIX}{found.watched.contract.lock.hex()}",
            BalanceInfo(
                Amount(balance.confirmed),
                Amount(balance.frozen),
                Amount(balance.immature),
                Amount(balance.leaving),
                Amount(balance.pending),
                Amount(balance.on_chain),
            ),
            found.status,
            [Hash(key) for key in found.own_keys],
        )


@user_text(
    """What a transfer, or a coin mined to the lock (`id` is its own), did to a contract. `height`
    is missing while it waits."""
)
class ContractHistoryItem(msgspec.Struct, frozen=True):
    id: Hash
    minted: bool
    height: int | None
    time: int
    received: Amount
    sent: Amount

    @classmethod
    def of(cls, entry: ContractEntry) -> ContractHistoryItem:
        """Describe an entry."""
        return cls(
            Hash(entry.key),
            entry.minted,
            entry.height,
            entry.time_ms,
            Amount(entry.received),
            Amount(entry.sent),
        )


class ContractRoom:
    """Methods that look at one contract, and that bring signers together."""

    def __init__(self, wallets: WalletManager) -> None:
        self._wallets = wallets

    @method("wallet.contract_info", Access.FULL, scope=Scope.READ, errors=(WalletRefusedError,))
    @user_text(
        """Return a contract with what it has and where it stands.

        To spend an m-of-n: wallet.multisig_prepare, wallet.sign by m parties, each on the file as
        it was or as another has signed it, wallet.merge, wallet.broadcast. A hash-time-lock:
        wallet.htlc_claim, wallet.htlc_refund.
        """
    )
    async def contract_info(
        self, lock: ContractLock, wallet: WalletName = DEFAULT_WALLET
    ) -> ContractState:
        return ContractState.of(await self._wallets.contract(wallet, bytes(lock)))

    @method("wallet.contract_history", Access.FULL, scope=Scope.READ, errors=(WalletRefusedError,))
    @user_text("Return what came to a contract and went: what waits first, then the latest.")
    async def contract_history(
        self,
        lock: ContractLock,
        wallet: WalletName = DEFAULT_WALLET,
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> list[ContractHistoryItem]:
        found = await self._wallets.call(
            wallet, lambda opened: contract_history(opened, bytes(lock))
        )
        return [ContractHistoryItem.of(entry) for entry in found[offset : offset + limit]]

    @method("wallet.merge", Access.FULL, scope=Scope.READ, errors=(WalletRefusedError,))
    @user_text(
        """Join the signatures of several signers' files of one transfer, given in any order, in one
        file, and say how many are missing still. Nothing is sent."""
    )
    async def merge(
        self,
        files: Annotated[list[Hex], msgspec.Meta(min_length=1, max_length=16)],
        wallet: WalletName = DEFAULT_WALLET,
    ) -> UnsignedTransfer:
        def work(opened: Wallet) -> UnsignedTransfer:
            merged: Unsigned = merge_files([bytes(file) for file in files], opened.network)
            return UnsignedTransfer.of(merged.to_file(), opened.summary(merged))

        return await self._wallets.call(wallet, work)
