"""A small control port of Tor's on loopback: it keeps what it was asked, and answers well or
not."""

from __future__ import annotations

import hmac
from base64 import b32encode, b64encode
from dataclasses import dataclass, field
from hashlib import sha3_256
from pathlib import Path

import trio

SERVER_KEY = b"Tor safe cookie authentication server-to-controller hash"
CLIENT_KEY = b"Tor safe cookie authentication controller-to-server hash"
COOKIE = bytes(range(32))
KEY = "ED25519-V3:" + b64encode(bytes(64)).decode()


def service_of(number: int) -> str:
    """Return an onion address that is well formed, without its ending."""
    key = number.to_bytes(32, "big")
    checksum = sha3_256(b".onion checksum" + key + b"\3").digest()[:2]
    return b32encode(key + checksum + b"\3").decode().lower()


@dataclass
class FakeTor:
    """What it says; each answer may be replaced whole, by the name of its command."""

    cookie_file: Path
    methods: str = "COOKIE,SAFECOOKIE"
    password: str = ""
    answers: dict[str, bytes] = field(default_factory=dict)
    hangs_at: str = ""
    asked: list[str] = field(default_factory=list)
    services: list[str] = field(default_factory=list)
    """Those that are up."""
    hang_up: trio.Event = field(default_factory=trio.Event)
    _proof: str = ""

    def answer(self, line: str) -> bytes:
        """Return what is said to a command."""
        name, _, rest = line.partition(" ")
        self.asked.append(line)
        if name in self.answers:
            return self.answers[name]
        if name == "PROTOCOLINFO":
            file = str(self.cookie_file).replace("\\", "\\\\").replace('"', '\\"')
            lines = [
                "250-PROTOCOLINFO 1",
                f'250-AUTH METHODS={self.methods} COOKIEFILE="{file}"',
                '250-VERSION Tor="0.4.8.9"',
            ]
            return "".join(f"{line}\r\n" for line in lines).encode() + b"250 OK\r\n"
        if name == "AUTHCHALLENGE":
            ours, theirs = bytes(32), bytes.fromhex(rest.split()[1])
            nonces = COOKIE + theirs + ours
            shown = hmac.digest(SERVER_KEY, nonces, "sha256").hex().upper()
            self._proof = hmac.digest(CLIENT_KEY, nonces, "sha256").hex()
            said = f"250 AUTHCHALLENGE SERVERHASH={shown} SERVERNONCE={ours.hex().upper()}\r\n"
            return said.encode()
        if name == "AUTHENTICATE":
            wanted = f'"{self.password}"' if self.password else self._proof
            wanted = "" if self.methods == "NULL" else wanted
            return b"250 OK\r\n" if rest == wanted else b"515 Authentication failed\r\n"
        if name == "ADD_ONION":
            key = rest.split()[0]
            service = service_of(7)
            self.services.append(service)
            made = f"250-PrivateKey={KEY}\r\n" if key.startswith("NEW:") else ""
            return f"250-ServiceID={service}\r\n{made}250 OK\r\n".encode()
        if name == "DEL_ONION":
            self.services.remove(rest)
            return b"250 OK\r\n"
        return b"510 Unrecognized command\r\n"

    async def serve(self, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen on loopback until cancelled; started with the port."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with trio.open_nursery() as nursery:
            task_status.started(listener.socket.getsockname()[1])
            await trio.serve_listeners(self._talk, [listener], handler_nursery=nursery)

    async def _talk(self, stream: trio.SocketStream) -> None:
        held = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cut, nursery)
            try:
                while data := await stream.receive_some(4096):
                    held += data
                    while b"\r\n" in held:
                        line, _, held = held.partition(b"\r\n")
                        if line.split(b" ")[0].decode() == self.hangs_at:
                            await trio.sleep_forever()
                        await stream.send_all(self.answer(line.decode()))
            except trio.BrokenResourceError:
                pass
            finally:
                self.services.clear()
                nursery.cancel_scope.cancel()
                await stream.aclose()

    async def _cut(self, nursery: trio.Nursery) -> None:
        await self.hang_up.wait()
        nursery.cancel_scope.cancel()
