"""wallet.contract_*, multisig_* and htlc_*: conditions shared with others, as wallets of their own,
and files of several signers."""

from __future__ import annotations

from typing import Annotated

import msgspec

from unchained.node.base.user_text import user_text
from unchained.node.rpc.core.errors import WalletRefusedError
from unchained.node.rpc.core.registry import Access, Scope, method
from unchained.node.rpc.core.values import Amount, Hash, Hex
from unchained.node.rpc.methods.parameters import MAX_NUMBER, Limit, Offset
from unchained.node.rpc.methods.spending import (
    AllowHighFee,
    CoinIds,
    ContractLock,
    DryRun,
    FeeMax,
    Spending,
    bytes_of,
    described,
    spends,
)
from unchained.node.rpc.methods.wallet_shapes import (
    BalanceInfo,
    ContractInfo,
    FeeRate,
    Label,
    PartyText,
    Payment,
    Sent,
    UnsignedTransfer,
    WalletName,
)
from unchained.node.wallet.contract_wallet import ContractEntry, ContractWallet, contract_history
from unchained.node.wallet.contracts import (
    CONTRACT_CHARS_MAX,
    Contract,
    hash_time_lock,
    multisig,
)
from unchained.node.wallet.keystore import DEFAULT_WALLET
from unchained.node.wallet.manager import WalletManager
from unchained.node.wallet.payee_book import PayeeBook
from unchained.node.wallet.payment_request import LOCK_PREFIX
from unchained.node.wallet.plan import Prepared
from unchained.node.wallet.records import Outgoing, Payee
from unchained.node.wallet.unsigned import merge_files
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
    """Methods that make, show and spend contracts, and that bring signers together."""

    def __init__(self, wallets: WalletManager) -> None:
        self._wallets = wallets
        self._spending = Spending(wallets)

    @method("wallet.contracts", Access.FULL, scope=Scope.READ, errors=(WalletRefusedError,))
    @user_text("Return the contracts that a wallet watches, and what they hold.")
    async def contracts(self, wallet: WalletName = DEFAULT_WALLET) -> list[ContractInfo]:
        found = await self._wallets.look(wallet, Wallet.contracts)
        return [ContractInfo.of(watched) for watched in found]

    @method("wallet.contract_add", Access.FULL, errors=(WalletRefusedError,))
    @user_text(
        """Watch a contract that another party made, by its text.

        For what was paid to it before, the wallet reads the chain again from its birth on, beside
        following it; `progress` of wallet.info shows how far. Not if it watched it already.
        """
    )
    async def contract_add(
        self,
        contract: Annotated[str, msgspec.Meta(max_length=CONTRACT_CHARS_MAX)],
        wallet: WalletName = DEFAULT_WALLET,
        *,
        label: Label = "",
        preimage: Hash | None = None,
    ) -> ContractInfo:
        made = Contract.from_text(contract, self._wallets.network)
        known = None if preimage is None else bytes(preimage)
        return await self._add(wallet, made, label, known, read_again=True)

    @method("wallet.multisig_create", Access.FULL, errors=(WalletRefusedError,))
    @user_text(
        """Make an m-of-n of the parties' keys and watch it; hand its text to the parties.

        To fund it, pay its text. To spend it: wallet.multisig_prepare, wallet.sign by m parties,
        wallet.broadcast.
        """
    )
    async def multisig_create(
        self,
        threshold: Annotated[int, msgspec.Meta(ge=1, le=16)],
        parties: Annotated[
            list[PartyText], msgspec.Meta(max_length=16, description="addresses, paycodes or names")
        ],
        wallet: WalletName = DEFAULT_WALLET,
        *,
        label: Label = "",
    ) -> ContractInfo:
        keys = await self._parties(wallet, parties)
        return await self._add(
            wallet, multisig(self._wallets.network, threshold, keys), label, None
        )

    @spends("wallet.multisig_prepare", reads=True)
    @user_text(
        """Make a transfer of what an m-of-n holds, to be signed by its parties.

        What is left stays under the contract; with no payments all goes to the wallet itself.
        """
    )
    async def multisig_prepare(
        self,
        lock: ContractLock,
        payments: Annotated[list[Payment], msgspec.Meta(max_length=255)],
        wallet: WalletName = DEFAULT_WALLET,
        *,
        fee_rate: FeeRate | None = None,
        fee: Amount | None = None,
        coins: CoinIds | None = None,
        allow_high_fee: AllowHighFee = False,
    ) -> UnsignedTransfer:
        payees, chosen = (
            self._spending.payees(payments),
            await self._spending.fee(fee_rate, fee, allow_high_fee),
        )
        wanted = bytes_of(coins)
        return await self._spending.prepared(
            wallet,
            lambda opened: opened.spender.from_contract(
                opened.contract(bytes(lock)).contract, chosen, payees=payees, named=wanted
            ),
        )

    @method("wallet.htlc_create", Access.FULL, errors=(WalletRefusedError,))
    @user_text(
        """Make a hash-time-lock and watch it; hand its text to the other party.

        Without `hash` a preimage is drawn and kept. To fund it, pay its text. `refund_height` has
        to be above that of the next anchor: a refund that is open at once leaves no time to claim;
        and no more than 20 years off.
        """
    )
    async def htlc_create(
        self,
        claim: Annotated[
            PartyText, msgspec.Meta(description="address, paycode or name of who claims")
        ],
        refund: Annotated[PartyText, msgspec.Meta(description="of who is refunded")],
        refund_height: Annotated[
            int, msgspec.Meta(ge=1, le=MAX_NUMBER, description="height to refund from")
        ],
        wallet: WalletName = DEFAULT_WALLET,
        *,
        hash: Annotated[  # noqa: A002 - the parameter's public name
            Hash, msgspec.Meta(description="SHA-256 of the preimage")
        ]
        | None = None,
        label: Label = "",
    ) -> ContractInfo:
        read = await self._wallets.call(wallet, lambda opened: opened.spender.next_height)
        claims, refunded = await self._parties(wallet, [claim, refund])
        made = hash_time_lock(
            self._wallets.network,
            claims,
            refunded,
            refund_height,
            None if hash is None else bytes(hash),
            next_height=max(read, self._wallets.tip_height + 1),
        )
        return await self._add(wallet, made.contract, label, made.preimage)

    @spends("wallet.htlc_claim", reads=("dry_run", "coins"))
    @user_text(
        """Take what a hash-time-lock holds, by the preimage given or known.

        Near the height of the refund it pays more, to be first, and says so in `warning`; where a
        refund waits in the mempool, what replaces it.
        """
    )
    async def htlc_claim(
        self,
        lock: ContractLock,
        wallet: WalletName = DEFAULT_WALLET,
        *,
        preimage: Hash | None = None,
        fee_rate: FeeRate | None = None,
        coins: CoinIds | None = None,
        fee_max: FeeMax | None = None,
        allow_high_fee: AllowHighFee = False,
        dry_run: DryRun = False,
    ) -> Sent:
        known = None if preimage is None else bytes(preimage)
        fee = await self._spending.fee(fee_rate, None, allow_high_fee, most=fee_max)
        named = bytes_of(coins)
        act = self._wallets.plan_claim if dry_run else self._wallets.claim
        return _sent(await act(wallet, bytes(lock), fee, preimage=known, coins=named))

    @spends("wallet.htlc_refund", reads=("dry_run", "coins"))
    @user_text("Take back what a hash-time-lock holds, once its height is reached.")
    async def htlc_refund(
        self,
        lock: ContractLock,
        wallet: WalletName = DEFAULT_WALLET,
        *,
        fee_rate: FeeRate | None = None,
        coins: CoinIds | None = None,
        fee_max: FeeMax | None = None,
        allow_high_fee: AllowHighFee = False,
        dry_run: DryRun = False,
    ) -> Sent:
        fee = await self._spending.fee(fee_rate, None, allow_high_fee, most=fee_max)
        named = bytes_of(coins)
        act = self._wallets.plan_refund if dry_run else self._wallets.refund
        return _sent(await act(wallet, bytes(lock), fee, coins=named))

    async def _parties(self, wallet: str, parties: list[str]) -> list[str]:
        """Return the addresses and paycodes of parties, some by their names in the address book.
        Raises what `PayeeBook.resolve` does."""

        def work(opened: Wallet) -> list[str]:
            book = PayeeBook(opened.store, opened.network)
            return [book.resolve(Payee(party, 0, b"")).payee for party in parties]

        return await self._wallets.call(wallet, work)

    async def _add(
        self,
        wallet: str,
        contract: Contract,
        label: str,
        preimage: bytes | None,
        *,
        read_again: bool = False,
    ) -> ContractInfo:
        await self._wallets.add_contract(
            wallet, contract, label=label, preimage=preimage, read_again=read_again
        )
        return ContractInfo.of(
            await self._wallets.call(wallet, lambda opened: opened.contract(contract.lock))
        )

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
        found = await self._wallets.look(
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
            return described(opened, merge_files([bytes(file) for file in files], opened.network))

        return await self._wallets.call(wallet, work)


def _sent(made: Outgoing | Prepared) -> Sent:
    return Sent.planned([made]) if isinstance(made, Prepared) else Sent.of(made)
