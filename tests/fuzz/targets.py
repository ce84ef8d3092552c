"""Every decoder that reads what somebody else wrote, as a target for fuzzing."""

from __future__ import annotations

import io
import lzma
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509

from tests.framework.programs.network import run
from tests.framework.programs.steps import Program
from tests.framework.simulation.seeded_randomness import SeededRandomness
from tests.framework.vectors import VECTORS, load, unhex
from tests.framework.wire_document import EXCHANGES, Chain, examples
from tests.fuzz.answer_targets import answer_targets
from tests.fuzz.bounds import JSON_DEPTH, bounds
from tests.fuzz.file_targets import file_targets, wallet_files
from tests.fuzz.link_targets import link_targets
from tests.fuzz.made_files import made_files
from tests.fuzz.peer_bounds import ASMAP, long_identify
from tests.fuzz.programs import written
from tests.fuzz.rpc_targets import rpc_targets
from tests.fuzz.target import FuzzTarget
from unchained.miner.frames import FRAME_SIZE, READY, BadFrameError, Frame
from unchained.node.chain.export import MAX_RECORD, ImportFailedError, read_head, read_packages
from unchained.node.consensus.coin_proof import (
    CoinProof,
    CoinProofError,
    NotACoinProofError,
    network_of,
    verify_coin_proof,
)
from unchained.node.consensus.coins import parse_coin
from unchained.node.consensus.params import MAIN, REG
from unchained.node.consensus.transfers import check_transfer_alone, decode_transfer
from unchained.node.crypto.addresses import PayeeError, decode_address, decode_paycode
from unchained.node.crypto.history_range import HistoryProof
from unchained.node.crypto.pow import default_backend
from unchained.node.crypto.state_range import StateProof
from unchained.node.peers.asmap import Asmap, BadAsmapError
from unchained.node.primitives.amounts import check_amount, grains_of, shortest
from unchained.node.primitives.body import Body
from unchained.node.primitives.codec import encode
from unchained.node.primitives.conditions import parse_condition
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.types import MAX_AMOUNT
from unchained.node.rpc.core.dispatcher import read_json
from unchained.node.rpc.core.errors import RpcError
from unchained.node.transport import gossip_wire
from unchained.node.transport.address import Address
from unchained.node.transport.contract import TransportError
from unchained.node.transport.gossip_router import Rpc
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p import identify
from unchained.node.transport.libp2p.certificate import BadCertificateError, peer_of
from unchained.node.transport.libp2p.streams import StreamFaultError
from unchained.node.transport.rpc_fields import BadRpcError
from unchained.node.wallet.contracts import Contract, multisig
from unchained.node.wallet.errors import WalletError
from unchained.node.wallet.keystore import Keystore
from unchained.node.wallet.payment_request import PaymentRequest
from unchained.node.wallet.watch_export import WatchExport
from unchained.node.wire.errors import AnswerError

PROGRAMS_DRAWN: Final = 3
"""Programs that a test draws: each takes a fifth of a second."""

_WITHIN_CERTIFICATES: Final = datetime(2026, 1, 1, tzinfo=UTC)


def _text(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """Return a reader of bytes from one of texts: any text, surrogates of the command line's
    undecodable bytes included."""
    return lambda raw: read(raw.decode("utf-8", "surrogateescape"))


def _field(name: str, *path: str) -> Callable[[], Iterator[bytes]]:
    """Return what gives a field of each case of some known answers."""

    def read() -> Iterator[bytes]:
        *lists, key = path
        for part in lists:
            for case in load(name)[part]:
                yield unhex(case[key])

    return read


def _lines(name: str, *path: str) -> Callable[[], Iterator[bytes]]:
    """Return what gives a text of each case of some known answers."""

    def read() -> Iterator[bytes]:
        *lists, key = path
        for part in lists:
            for case in load(name)[part]:
                yield str(case[key]).encode()

    return read


def _exported() -> Iterator[bytes]:
    """Yield the shortest chain of the known answers, cut so that an input stays small."""
    with lzma.open(VECTORS / "exports.tar.xz") as packed, tarfile.open(fileobj=packed) as tar:
        member = tar.extractfile("exports/reg-same-body.bin")
        assert member is not None, "the known answers hold it"
        chain = member.read()[:12_000]
    head, frame = chain[:21], chain[21 : 25 + int.from_bytes(chain[21:25], "big")]
    yield from (chain, head, head + frame[:3], head + b"\xff" * 4, head + frame + frame)


class _BoundedFile(io.BytesIO):
    """A file of which nobody asks for more at a time than a record may have: so much is allocated
    before it is seen that less is there."""

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert 0 <= size <= MAX_RECORD, f"{size} bytes are asked for at a time"
        return super().read(size)


def _read_export(raw: bytes) -> int:
    file = _BoundedFile(raw)
    read_head(file, REG)
    return sum(1 for _ in read_packages(file, REG))


def _verify_coin_proof(raw: bytes) -> object:
    proof = CoinProof.from_file(raw)
    return verify_coin_proof(proof, network_of(proof.chain_id), default_backend())


def _read_amounts(text: str) -> int:
    """Return the sum in grains of amounts that are joined by `+`, if that is one."""
    parts = [grains_of(part) for part in text.split("+")]
    assert all(0 <= part <= MAX_AMOUNT for part in parts), "an amount that there cannot be"
    grains = sum(parts)
    check_amount(grains, 1)
    assert 0 < grains <= MAX_AMOUNT, "a sum that there cannot be"
    assert grains_of(shortest(grains)) == grains, "it is not read as written"
    return grains


def _check_transfer(raw: bytes) -> object:
    sized = decode_transfer(raw)
    check_transfer_alone(sized.transfer, REG)
    return sized


def _wire_targets() -> Iterator[FuzzTarget]:
    chain = Chain()
    for name, (request, answer) in examples(chain).items():
        exchange = EXCHANGES[name]
        yield FuzzTarget(
            f"request-{name}",
            exchange.decode_request,
            (ProtocolError,),
            lambda request=request, exchange=exchange: (  # type: ignore[misc]
                encode(request),
                encode((*request, *request)) if isinstance(request, tuple) else b"",
                bytes(min(1_024, exchange.limits.max_request + 1)),
            ),
            encode,
        )
        yield FuzzTarget(
            f"answer-{name}",
            exchange.decode_answer,
            (ProtocolError, AnswerError),
            lambda exchange=exchange, answer=answer: (  # type: ignore[misc]
                exchange.answer(answer),
                b"\1",
                b"\1 ",
            ),
            exchange.answer,
        )


def _read_certificate(raw: bytes) -> object:
    try:
        certificate = x509.load_der_x509_certificate(raw)
    except (ValueError, x509.InvalidVersion):
        # OpenSSL is who reads it on a link, and refuses more.
        return None
    return peer_of(certificate, _WITHIN_CERTIFICATES)


def _read_identify(raw: bytes) -> identify.Identified:
    told = identify.decode(raw)
    for text in (told.agent, *told.protocols):
        assert len(text) <= identify.TEXT_BYTES_MAX, "a text is not cut"
        assert text.isascii()
        assert text.isprintable() or not text
    return told


def _read_asmap(raw: bytes) -> Asmap:
    """Read a map, which has an answer for each address then."""
    asmap = Asmap(raw, "map")
    for ip in ("0.0.0.0", "203.0.113.7", "255.255.255.255", "::", "2001:db8::7"):
        assert asmap.system_of(ip) >= 0
    return asmap


def _contract() -> Iterator[bytes]:
    parties = [
        account["address"] for account in load("keys")["accounts"] if account["network"] == "reg"
    ]
    yield multisig(REG, 1, parties[:2], SeededRandomness("contract")).to_text().encode()
    yield made_files().contract.encode()


def _gossip() -> Iterator[bytes]:
    chain = Chain()
    topic = "/unchained/coins"
    for rpc in (
        Rpc(subscribe=(topic,), graft=(topic,), prune=((topic, 60),)),
        Rpc(messages=((topic, chain.coin.raw),)),
        Rpc(have=((topic, (bytes(32),)),), want=(bytes(32),), unwanted=(bytes(32),)),
    ):
        framed = gossip_wire.encode([rpc])
        yield framed[2 if framed[0] & 0x80 else 1 :]


def all_targets() -> dict[str, FuzzTarget]:
    """Return every target by its name."""
    transfers = _field("transfers", "cases", "alone", "encoding")
    bounded = bounds()
    return {
        target.name: replace(target, bounds=bounded.get(target.name, ()))
        for target in (
            FuzzTarget(
                "coin",
                parse_coin,
                (ProtocolError,),
                lambda: (Chain().coin.raw,),
                lambda coin: bytes(coin.raw),
            ),
            FuzzTarget(
                "body",
                Body.from_bytes,
                (ProtocolError,),
                lambda: (encode(Chain().anchor.body),),
                encode,
            ),
            FuzzTarget(
                "transfer",
                decode_transfer,
                (ProtocolError,),
                transfers,
                lambda sized: bytes(sized.transfer.to_bytes()),
            ),
            FuzzTarget("transfer-alone", _check_transfer, (ProtocolError,), transfers),
            FuzzTarget(
                "condition",
                parse_condition,
                (ProtocolError,),
                _field("conditions", "good", "bad", "condition"),
                lambda condition: bytes(condition.to_bytes()),
            ),
            FuzzTarget(
                "state-proof",
                StateProof.from_bytes,
                (ProtocolError,),
                _field("proofs", "state", "proof"),
                encode,
            ),
            FuzzTarget(
                "history-proof",
                HistoryProof.from_bytes,
                (ProtocolError,),
                _field("proofs", "history", "proof"),
                encode,
            ),
            FuzzTarget(
                "coin-proof",
                CoinProof.from_file,
                (NotACoinProofError,),
                _field("proof_files", "proofs", "file"),
                CoinProof.to_file,
            ),
            FuzzTarget(
                "proven-coin",
                _verify_coin_proof,
                (CoinProofError,),
                lambda: (
                    *_field("proof_files", "proofs", "file")(),
                    *_field("proof_files", "refused", "file")(),
                ),
            ),
            FuzzTarget(
                "amount",
                _text(_read_amounts),
                (ValueError,),
                lambda: (
                    b"1.5",
                    b"0.00000001",
                    b"0",
                    b"92233720368.54775807",
                    b"92233720368.54775808",
                    b"92233720368.5+1",
                    b"123456789012",
                ),
            ),
            FuzzTarget("export", _read_export, (ProtocolError, ImportFailedError), _exported),
            FuzzTarget(
                "address",
                _text(lambda text: decode_address(MAIN, text)),
                (PayeeError,),
                _lines("keys", "accounts", "address"),
            ),
            FuzzTarget(
                "paycode",
                _text(lambda text: decode_paycode(MAIN, text)),
                (PayeeError,),
                _lines("keys", "paycodes", "paycode"),
            ),
            FuzzTarget(
                "payment-uri",
                _text(lambda text: PaymentRequest.from_uri(MAIN, text)),
                (WalletError,),
                lambda: (
                    b"unchained:"
                    + load("keys")["accounts"][0]["address"].encode()
                    + b"?amount=1.5&label=bike&memo=x",
                ),
            ),
            FuzzTarget(
                "contract",
                _text(lambda text: Contract.from_text(text, REG)),
                (WalletError,),
                _contract,
            ),
            FuzzTarget(
                "watch-export",
                _text(lambda text: WatchExport.from_text(text, REG)),
                (WalletError,),
                lambda: (
                    WatchExport(
                        REG.chain_id, 0, Keystore.from_bytes(next(wallet_files()), REG).accounts
                    )
                    .to_text()
                    .encode(),
                ),
            ),
            FuzzTarget(
                "json",
                lambda raw: read_json(raw, JSON_DEPTH),
                (RpcError,),
                lambda: (
                    b'{"jsonrpc":"2.0","id":1,"method":"node.status","params":{"a":[1,null]}}',
                ),
            ),
            FuzzTarget("gossip", gossip_wire.decode, (BadRpcError,), _gossip),
            FuzzTarget(
                "identify",
                _read_identify,
                (StreamFaultError,),
                lambda: (
                    unhex(load("wire-0.1")["replies"]["/ipfs/id/1.0.0"])[40:],
                    long_identify(),
                ),
            ),
            FuzzTarget(
                "certificate",
                _read_certificate,
                (BadCertificateError,),
                _field("libp2p_tls", "certificates", "der"),
            ),
            FuzzTarget(
                "multiaddr",
                _text(Address.parse),
                (TransportError,),
                lambda: (
                    b"/ip4/203.0.113.7/tcp/4011/p2p/" + Identity.from_seed(bytes(32)).peer.encode(),
                ),
            ),
            FuzzTarget(
                "asmap",
                _read_asmap,
                (BadAsmapError,),
                lambda: (bytes(4), b"\xfb\x03\xec\x0f", ASMAP),
            ),
            FuzzTarget(
                "miner-frame",
                Frame.from_bytes,
                (BadFrameError,),
                lambda: (READY + bytes(FRAME_SIZE - len(READY)),),
                Frame.to_bytes,
            ),
            FuzzTarget(
                "program",
                lambda raw: run(Program.from_bytes(raw)),
                (),
                lambda: (program.to_bytes() for program in written().values()),
                None,
                Program.parts,
                PROGRAMS_DRAWN,
            ),
            *_wire_targets(),
            *answer_targets(),
            *link_targets(),
            *rpc_targets(),
            *file_targets(),
        )
    }
