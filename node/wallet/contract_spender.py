"""Makes transfers of coins that lie under a contract, and bids against others who spend them.

What a hash-time-lock holds is taken by whoever is first: near the height of its refund a claim pays
to be in the next anchor, and where a refund waits in the mempool already, to replace it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import msgspec

from unchained.node.base.number_words import number_of
from unchained.node.consensus.policy import MAX_REPLACED, replacement_fee
from unchained.node.primitives.conditions import (
    Condition,
    HashTimeLockCondition,
    MultisigCondition,
    parse_condition,
)
from unchained.node.primitives.transfer import Transfer
from unchained.node.primitives.types import CoinId, Lock, Txid
from unchained.node.wallet import spending
from unchained.node.wallet.contracts import Contract
from unchained.node.wallet.errors import (
    ContractError,
    HighFeeError,
    InsufficientFundsError,
    NoSuchCoinError,
)
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.link import ChainSnapshots, WaitingBids
from unchained.node.wallet.payment_request import Draft, draft_for
from unchained.node.wallet.plan import Plan, Prepared, costs_of
from unchained.node.wallet.records import Payee, WalletCoin
from unchained.node.wallet.selection import SelectionCosts
from unchained.node.wallet.spender import Spender
from unchained.node.wallet.stored_values import told_as_damage
from unchained.node.wallet.unsigned import size_bound
from unchained.node.wallet.wallet_store import WalletStore
from unchained.storage import schema

REFUND_NEAR_ANCHORS: Final = 8
"""Anchors before the height of a refund from which on a claim is urgent."""


class Rivals(msgspec.Struct, frozen=True, gc=False):
    """Transfers of others in the mempool that spend coins of a contract, and which each of them
    does; `own` is a transfer of the wallet that they have driven out, with the coins of the
    contract that it spends, `coins` all of these, and `bids` what the others pay."""

    coins: frozenset[CoinId] = frozenset()
    spends: tuple[tuple[CoinId, Txid], ...] = ()
    own: bytes = b""
    own_coins: frozenset[CoinId] = frozenset()
    bids: WaitingBids = WaitingBids({})

    def of(self, coins: Collection[WalletCoin]) -> frozenset[Txid]:
        """Return those that spend one of some coins: nobody else's transfer is replaced by what
        spends these."""
        spent = {coin.coin_id for coin in coins}
        return frozenset(txid for coin_id, txid in self.spends if coin_id in spent)

    def least_fee(self, coins: Collection[WalletCoin], size: int) -> float:
        """Return the least fee of a transfer of a size that spends some coins in place of all who
        do; infinite where so many are not replaced at a time."""
        transfers, family = self.bids.of(self.of(coins))
        if not transfers:
            return 0
        if len(family) > MAX_REPLACED:
            return math.inf
        return replacement_fee(size, transfers, family)


_RIVAL: Final = """uses.txid IN (SELECT txid FROM waiting)
            AND uses.txid NOT IN (SELECT txid FROM outgoing)"""

NOBODY: Final = Rivals()
"""Nobody else spends the coins."""


class Race(msgspec.Struct, frozen=True, gc=False):
    """What whoever claims has to be faster than: `rivals`; `urgent_rate` (grains per byte of size)
    is what should do to be in the next anchor, and the chain is at `tip_height`, if the wallet has
    not read so far."""

    rivals: Rivals = NOBODY
    urgent_rate: int = 1
    tip_height: int = 0


ALONE: Final = Race()
"""There is time, as far as the wallet itself knows."""


@told_as_damage()
def rivals_at(store: WalletStore, lock: bytes, named: Sequence[bytes] | None = None) -> Rivals:
    """Return who else is about to spend the coins under a lock, or those `named`: only who spends
    the same coin is a rival, and only what spends it is replaced. The coins that a transfer of the
    wallet spends which they have driven out are contested as well: what replaces it spends them."""
    rows = store.rows(
        f"""SELECT coin_id, uses.txid FROM uses JOIN coins USING (coin_id)
            WHERE lock = ? AND {_RIVAL} ORDER BY coin_id""",  # noqa: S608
        lock,
    )
    if named is not None:
        rows = [row for row in rows if row[0] in named]
    coins = [CoinId(coin_id) for coin_id, _ in rows]
    marks = ", ".join("?" * len(coins))
    own = store.rows(
        f"""SELECT txid FROM uses JOIN outgoing USING (txid) WHERE coin_id IN ({marks})
            AND outgoing.height IS NULL AND state = 0 LIMIT 1""",  # noqa: S608
        *coins,
    )
    with_own = store.rows(
        "SELECT coin_id FROM uses JOIN coins USING (coin_id) WHERE uses.txid = ? AND lock = ?",
        own[0][0] if own else b"",
        lock,
    )
    own_coins = frozenset(CoinId(coin_id) for (coin_id,) in with_own)
    return Rivals(
        own_coins.union(coins),
        tuple((CoinId(coin_id), Txid(txid)) for coin_id, txid in rows),
        own[0][0] if own else b"",
        own_coins,
    )


def worth_contesting(
    coins: Sequence[WalletCoin], rivals: Rivals, fee_of: Callable[[Sequence[WalletCoin]], float]
) -> list[WalletCoin]:
    """Return those of some coins that bring most together, `fee_of` being what spending some of
    them costs, infinite where that must not be paid: who spends a small coin for a high fee keeps
    nobody from the others. All of them where none brings anything."""
    value = {coin.coin_id: coin.value for coin in coins}
    contested: dict[Txid, set[CoinId]] = {}
    for coin_id, txid in rivals.spends:
        if coin_id in value:
            contested.setdefault(txid, set()).add(coin_id)

    def gain(left: Collection[Txid]) -> float:
        some = _without(coins, contested, left)
        return sum(coin.value for coin in some) - fee_of(some) if some else 0

    ascending = sorted(
        contested, key=lambda txid: (sum(value[spent] for spent in contested[txid]), txid)
    )
    left: list[Txid] = []
    best = gain(left)
    for txid in ascending:
        without = gain([*left, txid])
        # of more than are replaced at a time, those who spend least are left alone first
        if best == -math.inf or without > best:
            left, best = [*left, txid], without
    # who was left alone before the one whose fee must not be paid may be worth it without him
    for txid in reversed(left):
        others = [other for other in left if other != txid]
        if (with_it := gain(others)) > best:
            left, best = others, with_it
    return _without(coins, contested, left) or list(coins)


def _without(
    coins: Sequence[WalletCoin], contested: Mapping[Txid, set[CoinId]], left: Collection[Txid]
) -> list[WalletCoin]:
    gone = set[CoinId]().union(*(contested[txid] for txid in left))
    return [coin for coin in coins if coin.coin_id not in gone]


@told_as_damage()
def driven_out(store: WalletStore, chain: ChainSnapshots) -> list[tuple[Txid, Lock]]:
    """Return the claims of the wallet that transfers of others have driven out of the mempool, each
    with its contract's lock. Another claim of the same coin drives nothing out: the wallet's own
    key has signed it, in a copy of the wallet elsewhere."""
    rows = store.rows(
        f"""SELECT DISTINCT outgoing.txid, lock, outgoing.raw, waiting.wid, outgoing.created_ms
            FROM contracts JOIN coins USING (lock)
            JOIN uses AS own USING (coin_id) JOIN outgoing ON outgoing.txid = own.txid
            JOIN uses ON uses.coin_id = own.coin_id JOIN waiting ON waiting.txid = uses.txid
            WHERE outgoing.height IS NULL AND state = 0
            AND outgoing.txid NOT IN (SELECT txid FROM waiting)
            AND {_RIVAL} ORDER BY outgoing.created_ms""",  # noqa: S608
    )
    contested = [
        (Txid(txid), Lock(lock), wid)
        for txid, lock, raw, wid, _ in rows
        if Transfer.from_bytes(raw).preimages
    ]
    if not contested:
        return []
    terms = {lock: parse_condition(condition) for lock, condition, *_ in store.contracts()}
    with chain.snapshot() as view:
        taken = [
            (txid, lock)
            for txid, lock, wid in contested
            # what is not there any more has left the mempool, as the wallet is about to read
            if (raw := schema.TRANSFER.get(view, wid)) is not None
            and not _claims(Transfer.from_bytes(raw), terms[lock])
        ]
    return list(dict.fromkeys(taken))


def _claims(transfer: Transfer, terms: Condition) -> bool:
    """Return whether what spends a coin under a hash-time-lock claims it: then the claim key has
    signed it (Protocol §8.2), whatever else it spends and whom it pays."""
    return isinstance(terms, HashTimeLockCondition) and any(
        hashlib.sha256(preimage).digest() == terms.hash for preimage in transfer.preimages
    )


class ContractSpender(Spender):
    """Makes transfers for one wallet, of its own coins and of those of its contracts."""

    def from_contract(
        self,
        contract: Contract,
        fee: Fee,
        *,
        payees: Sequence[Payee] = (),
        account: int = 0,
        preimage: bytes | None = None,
        named: Sequence[bytes] | None = None,
        rivals: Rivals = NOBODY,
        tip_height: int = 0,
    ) -> Prepared:
        """Spend a contract's coins: pay `payees` and leave the rest under the contract, or with
        no payees take everything to an account's own paycode.

        Anybody can pay a lock, so the largest coins are spent, as many as one transfer holds,
        and none that is worth less than its fee; or those that are named. What a waiting transfer
        spends is left out, but for the coins of `rivals`.

        A hash-time-lock is claimed with its preimage, and refunded without: from its height on, by
        `tip_height` where the wallet has not read so far. Raises
        `ContractError` where it holds nothing or cannot be spent yet, `InsufficientFundsError`.
        """
        terms = contract.terms
        preimages: tuple[bytes, ...] = ()
        lock_height = 0
        if isinstance(terms, HashTimeLockCondition):
            self._check_own_side(terms, claims=preimage is not None)
            if preimage is not None:
                contract.check_preimage(preimage)
                preimages = (preimage,)
            elif terms.height > (next_height := self._next_height(tip_height)):
                raise ContractError(
                    f"the contract can be refunded from height {terms.height} on, "
                    f"the next anchor has {next_height}"
                )
            else:
                lock_height = terms.height
        payees = self._resolved(payees)
        plan = self._contract_plan(contract, payees, preimages, lock_height, account)
        coins = self._contract_coins(contract, costs_of(plan, fee), named, rivals.coins)
        return self._spend_all(plan, fee, coins, rivals, payees)

    def _contract_plan(
        self,
        contract: Contract,
        payees: Sequence[Payee],
        preimages: tuple[bytes, ...] = (),
        lock_height: int = 0,
        account: int = 0,
    ) -> Plan:
        """Return what spends a contract's coins, before these are chosen."""
        terms = contract.terms
        signatures = terms.threshold if isinstance(terms, MultisigCondition) else 1
        outputs = tuple(draft_for(self._network, payee) for payee in payees)
        back = Draft(0, contract.lock) if payees else self._to_self(account)
        return Plan((), outputs, contract.condition, signatures, preimages, lock_height, back)

    def _spend_all(
        self,
        plan: Plan,
        fee: Fee,
        coins: Sequence[WalletCoin],
        rivals: Rivals,
        payees: Sequence[Payee] = (),
    ) -> Prepared:
        """Spend coins of a contract, all of them. Raises `InsufficientFundsError`."""
        plan = msgspec.structs.replace(plan, fixed=tuple(coins))
        is_shared = any(coin.coin_id in rivals.own_coins for coin in coins)
        replaces = rivals.own if is_shared else b""
        prepared = self._prepare(plan, fee, None, payees, replaces=replaces)
        if not prepared.unsigned.outputs:
            raise InsufficientFundsError(
                costs_of(plan, fee).change, sum(coin.value for coin in coins)
            )
        return prepared

    def claim(
        self,
        contract: Contract,
        fee: Fee,
        preimage: bytes | None,
        *,
        named: Sequence[bytes] | None = None,
        race: Race = ALONE,
    ) -> Prepared:
        """Take what a hash-time-lock holds, by its preimage, before anybody takes the refund.

        Near the height of the refund it pays what is urgent at least, and what replaces the
        transfers of those rivals who spend the same coins; what is not worth that is left to them,
        unless it is named. Raises what `from_contract` does, and `HighFeeError` where that takes a
        fee that looks like a mistake.
        """
        rivals = race.rivals
        terms = contract.terms
        if not isinstance(terms, HashTimeLockCondition):
            raise ContractError("only a hash-time-lock can be claimed")
        self._check_own_side(terms, claims=True)
        if preimage is None:
            raise ContractError("the preimage of the contract's hash is not known")
        contract.check_preimage(preimage)
        left = max(terms.height - self._next_height(race.tip_height), 0)
        is_near = left <= REFUND_NEAR_ANCHORS
        if is_near and fee.exact is None and fee.rate < race.urgent_rate:
            fee = msgspec.structs.replace(fee, rate=race.urgent_rate)
        plan = self._contract_plan(contract, (), (preimage,))
        sizes, costs = costs_of(plan, Fee()), costs_of(plan, fee)

        def fee_of(coins: Sequence[WalletCoin]) -> float:
            size = sizes.bare + sizes.per_input * len(coins) + sizes.change
            asked = costs.bare + costs.per_input * len(coins) + costs.change
            least = rivals.least_fee(coins, size)
            if least == math.inf:
                return least
            paid = max(asked, int(least))
            bid = fee if paid == asked else msgspec.structs.replace(fee, exact=paid)
            try:
                bid.check_high(paid, size, sum(coin.value for coin in coins) - paid)
            except HighFeeError:
                return math.inf
            return paid

        coins: Sequence[WalletCoin] = self._contract_coins(contract, costs, named, rivals.coins)
        if named is None:
            coins = worth_contesting(coins, rivals, fee_of)

        def make(fee: Fee) -> Prepared:
            return self._spend_all(plan, fee, coins, rivals)

        prepared = make(fee)
        least = rivals.least_fee(coins, size_bound(prepared.unsigned, 1))
        if prepared.unsigned.fee < least < math.inf:
            prepared = make(msgspec.structs.replace(fee, exact=int(least)))
        return msgspec.structs.replace(prepared, warning=_warning(left, least > 0))

    def _next_height(self, tip_height: int) -> int:
        """Return the height of the next anchor of a chain that the wallet may not have read."""
        return max(self.next_height, tip_height + 1)

    def _check_own_side(self, terms: HashTimeLockCondition, *, claims: bool) -> None:
        """Check that a claim, or a refund, takes a key of this wallet. Raises `ContractError`."""
        keys = {account.key_hash for account in self._accounts.values()}
        if (terms.claim_key_hash if claims else terms.refund_key_hash) in keys:
            return
        can = "this wallet has no key of it"
        if terms.refund_key_hash in keys:
            can = f"this wallet can take it back from height {terms.height} on"
        elif terms.claim_key_hash in keys:
            can = "this wallet can claim it with the preimage"
        raise ContractError(
            f"only the other side can {'claim it' if claims else 'take it back'}; {can}"
        )

    def _contract_coins(
        self,
        contract: Contract,
        costs: SelectionCosts,
        named: Sequence[bytes] | None,
        contested: Collection[bytes],
    ) -> list[WalletCoin]:
        confirmed = [
            coin
            for coin in self._store.coins_at(contract.lock)
            if coin.height is not None
            and coin.spent_height is None
            and (not coin.leaving or coin.coin_id in contested)
        ]
        if not confirmed:
            raise ContractError("the contract holds no confirmed coins")
        ready = [coin for coin in confirmed if not self._is_immature(coin)]
        if not ready:
            raise ContractError("the contract's coins were all minted too lately to be spent")
        if named is None or spending.is_limited():
            # who froze a coin may name it all the same; a token's bearer may do neither
            ready = [coin for coin in ready if not coin.frozen]
            if not ready:
                raise ContractError("the contract's coins that could be spent are frozen")
        if named is not None:
            ready = _only_named(ready, named)
        worth = [coin for coin in ready if coin.value > costs.per_input]
        if not worth:
            raise ContractError("no coin of the contract is worth its fee")
        worth.sort(key=lambda coin: (-coin.value, coin.coin_id))
        return worth[: costs.max_inputs]


def _only_named(coins: Sequence[WalletCoin], named: Sequence[bytes]) -> list[WalletCoin]:
    found = {coin.coin_id: coin for coin in coins}
    chosen = []
    for coin_id in dict.fromkeys(named):
        coin = found.get(CoinId(coin_id))
        if coin is None:
            raise NoSuchCoinError(f"the contract has no coin {coin_id.hex()} that can be spent")
        chosen.append(coin)
    return chosen


def _warning(left: int, is_contested: bool) -> str:
    """Return what whoever claims has to know, nothing where there is time enough."""
    if is_contested:
        return (
            "another transfer of these coins waits already: the claim pays more to replace it, and "
            "can be replaced itself until it is included"
        )
    if left == 0:
        return (
            "the refund is possible already: until the claim is included, the other side can take "
            "the coins back, and it sees the preimage"
        )
    if left <= REFUND_NEAR_ANCHORS:
        return (
            f"the refund is possible {number_of(left, 'anchor')} from now: if the claim is not "
            "included before, the other side can take the coins back, and it sees the preimage"
        )
    return ""
