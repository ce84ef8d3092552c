"""Which coins are the wallet's: pure, by keys and bytes alone (Protocol §9)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from unchained.node.crypto.accounts import WatchAccount
from unchained.node.crypto.addresses import NO_TAG, NOTE_SIZE, OutputPlace, address_lock, open_note
from unchained.node.primitives.coin import HEADER_SIZE, CoinHeader
from unchained.node.primitives.hashing import COIN_HASH
from unchained.node.primitives.transfer import Output, SizedTransfer, Transfer, output_id
from unchained.node.primitives.types import ZERO32, CoinId, Lock, Txid
from unchained.node.wallet.records import Origin

if TYPE_CHECKING:
    from unchained.node.wallet.note_filter import Note, NoteFilter

_Match = tuple[int, Origin, bytes, bytes, bytes]
"""Account, origin, salt, tag and memo of an output."""

CONTRACT_ACCOUNT: Final = -1
"""The account of coins under conditions that the wallet shares with others."""


class FoundCoin(msgspec.Struct, frozen=True, gc=False):
    """A coin of the wallet. `height` None while its transfer waits; `value` in grains; `tag` and
    `memo` zero and empty where there is none or it cannot be read."""

    coin_id: CoinId
    account: int
    origin: Origin
    value: int
    lock: Lock
    txid: bytes
    index: int
    height: int | None
    time_ms: int
    salt: bytes
    tag: bytes
    memo: bytes


class TransferFinds(msgspec.Struct, frozen=True, gc=False):
    """What a transfer is to the wallet: its name, the coins that it spends, and those of its
    outputs that are the wallet's. `fee` in grains."""

    txid: Txid
    fee: int
    outputs: tuple[Output, ...]
    spends: tuple[bytes, ...]
    preimages: tuple[bytes, ...]
    found: tuple[FoundCoin, ...]

    def others(self) -> list[tuple[bytes, int]]:
        """Return lock and value of each output that is not the wallet's."""
        own = {coin.index for coin in self.found if coin.account != CONTRACT_ACCOUNT}
        return [
            (output.lock, output.value) for at, output in enumerate(self.outputs) if at not in own
        ]


class Recogniser:
    """Knows the coins of some accounts, and those under some watched locks.

    `contracts` maps a lock to the salt that opens it.
    """

    def __init__(
        self, accounts: Mapping[int, WatchAccount], contracts: Mapping[bytes, bytes]
    ) -> None:
        self._accounts = tuple(accounts.items())
        self._filters: dict[int, NoteFilter] = {}
        """Of accounts that have been looked for."""
        self._known: dict[bytes, tuple[int, Origin, bytes]] = {
            lock: (CONTRACT_ACCOUNT, Origin.CONTRACT, salt) for lock, salt in contracts.items()
        }
        for index, account in accounts.items():
            self._known[address_lock(account.key_hash)] = (index, Origin.ADDRESS, ZERO32)

    def minted(self, coins: Iterable[bytes], height: int, time_ms: int) -> list[FoundCoin]:
        """Return those of coins (198 bytes each) that an anchor at `height` minted for the
        wallet, with the value still 0: what they are worth is for the chain to say."""
        found = []
        for raw in coins:
            header = CoinHeader.from_bytes(raw[:HEADER_SIZE])
            match = self._minted(header)
            if match is not None:
                account, origin, salt = match
                coin_id = CoinId(COIN_HASH(raw))
                found.append(
                    FoundCoin(
                        coin_id,
                        account,
                        origin,
                        0,
                        header.lock,
                        b"",
                        0,
                        height,
                        time_ms,
                        salt,
                        NO_TAG,
                        b"",
                    )
                )
        return found

    def _minted(self, header: CoinHeader) -> tuple[int, Origin, bytes] | None:
        known = self._known.get(header.lock)
        if known is not None:
            account, origin, salt = known
            return account, Origin.MINTED if origin is Origin.ADDRESS else origin, salt
        for index, account_keys in self._accounts:
            if account_keys.mining_lock(header.parent, header.time) == header.lock:
                salt = account_keys.mining_salt(header.parent, header.time)
                return index, Origin.MINTED, salt
        return None

    def transfers(
        self, transfers: Sequence[tuple[SizedTransfer, int | None, int]]
    ) -> list[TransferFinds]:
        """Return what transfers are to the wallet: each with the height of its anchor, if any, and
        a time in ms.

        Many at a time take some 20 microseconds for each output with a note and each account.
        """
        opened = self._open(
            [
                (OutputPlace(transfer.inputs[0].coin_id, index), Lock(output.lock), output.note)
                for transfer in (sized.transfer for sized, _, _ in transfers)
                for index, output in enumerate(transfer.outputs)
            ]
        )
        finds = []
        first = 0
        for sized, height, time_ms in transfers:
            transfer, txid = sized.transfer, sized.txid
            found = [
                _output(transfer, txid, at - first, opened[at], height, time_ms)
                for at in range(first, first + len(transfer.outputs))
                if at in opened
            ]
            finds.append(
                TransferFinds(
                    txid,
                    transfer.fee,
                    transfer.outputs,
                    tuple(spent.coin_id for spent in transfer.inputs),
                    transfer.preimages,
                    tuple(found),
                )
            )
            first += len(transfer.outputs)
        return finds

    def transfer(self, sized: SizedTransfer, height: int | None, time_ms: int) -> TransferFinds:
        """Return `transfers` of one."""
        (finds,) = self.transfers([(sized, height, time_ms)])
        return finds

    def _open(self, notes: Sequence[Note]) -> dict[int, _Match]:
        """Return which of some outputs are the wallet's, by their place."""
        matches = {
            at: (*self._known[lock], NO_TAG, b"")
            for at, (_, lock, _) in enumerate(notes)
            if lock in self._known
        }
        if all(len(note) != NOTE_SIZE for _, _, note in notes):
            return matches
        for index, account in self._accounts:
            for at in self._filter(index, account).candidates(notes):
                opened = open_note(account.view, account.key_hash, *notes[at])
                if opened is not None and at not in matches:
                    tag, memo = opened.tag or NO_TAG, opened.memo or b""
                    matches[at] = (index, Origin.PAYCODE, opened.salt, tag, memo)
        return matches

    def _filter(self, index: int, account: WatchAccount) -> NoteFilter:
        found = self._filters.get(index)
        if found is None:
            # Only here: it brings NumPy, 10 MB that a node without a paid wallet does without.
            from unchained.node.wallet.note_filter import NoteFilter

            found = self._filters[index] = NoteFilter(account)
        return found


def _output(
    transfer: Transfer, txid: Txid, index: int, match: _Match, height: int | None, time_ms: int
) -> FoundCoin:
    account, origin, salt, tag, memo = match
    output = transfer.outputs[index]
    return FoundCoin(
        output_id(txid, index),
        account,
        origin,
        output.value,
        Lock(output.lock),
        txid,
        index,
        height,
        time_ms,
        salt,
        tag,
        memo,
    )
