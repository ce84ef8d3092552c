"""A small internet gateway on loopback: it answers UPnP's search and a client's SOAP calls, for
real by sockets, and keeps what was asked of it."""

from __future__ import annotations

import fcntl
import re
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

GROUP = "239.255.255.250"
SEARCH_PORT = 1900
LOOPBACK = "127.0.0.1"
SERVICE = "urn:schemas-upnp-org:service:WANIPConnection:1"
DEVICE = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
CONFLICT = 718
"""UPnP's error for a port that somebody else has mapped."""
ONLY_FOREVER = 725
"""That for a lease."""

DESCRIPTION = f"""<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0">
<specVersion><major>1</major><minor>0</minor></specVersion>
<device><deviceType>{DEVICE}</deviceType><friendlyName>test</friendlyName>
<manufacturer>test</manufacturer><modelName>test</modelName><UDN>uuid:1</UDN>
<deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType>
<friendlyName>wan</friendlyName><UDN>uuid:2</UDN>
<serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1</serviceType>
<serviceId>urn:upnp-org:serviceId:WANCommonIFC1</serviceId>
<controlURL>/common</controlURL><eventSubURL>/common</eventSubURL><SCPDURL>/common.xml</SCPDURL>
</service></serviceList>
<deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType>
<friendlyName>connection</friendlyName><UDN>uuid:3</UDN>
<serviceList><service><serviceType>{SERVICE}</serviceType>
<serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<controlURL>/control</controlURL><eventSubURL>/control</eventSubURL><SCPDURL>/ip.xml</SCPDURL>
</service></serviceList></device></deviceList></device></deviceList></device></root>
"""


@dataclass
class FakeGateway:
    """What the gateway does, and what was asked of it."""

    outer_ip: str = "8.8.4.4"
    refuses: int = 0
    """The error that a mapping is refused with; 0: none is."""
    only_forever: bool = False
    """Whether it knows no leases."""
    mapped: dict[int, tuple[str, int]] = field(default_factory=dict)
    """The inner place of each outer port."""
    calls: list[str] = field(default_factory=list)

    def act(self, action: str, body: str) -> tuple[int, str]:
        """Carry a SOAP action out; return an HTTP status and what is answered."""
        self.calls.append(action)

        def given(name: str) -> str:
            found = re.search(rf"<{name}[^>]*>([^<]*)</{name}>", body)
            return found[1] if found else ""

        said = ""
        if action == "GetStatusInfo":
            said = (
                "<NewConnectionStatus>Connected</NewConnectionStatus><NewLastConnectionError>"
                "ERROR_NONE</NewLastConnectionError><NewUptime>1</NewUptime>"
            )
        elif action == "GetExternalIPAddress":
            said = f"<NewExternalIPAddress>{self.outer_ip}</NewExternalIPAddress>"
        elif action == "AddPortMapping":
            if self.refuses:
                return 500, _fault(self.refuses)
            if self.only_forever and given("NewLeaseDuration") != "0":
                return 500, _fault(ONLY_FOREVER)
            place = given("NewInternalClient"), int(given("NewInternalPort"))
            self.mapped[int(given("NewExternalPort"))] = place
        elif action == "DeletePortMapping":
            self.mapped.pop(int(given("NewExternalPort")), None)
        return 200, _envelope(
            f'<u:{action}Response xmlns:u="{SERVICE}">{said}</u:{action}Response>'
        )


def _envelope(inner: str) -> str:
    return (
        '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f"{inner}</s:Body></s:Envelope>"
    )


def _fault(code: int) -> str:
    return _envelope(
        "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>"
        '<UPnPError xmlns="urn:schemas-upnp-org:control-1-0">'
        f"<errorCode>{code}</errorCode><errorDescription>refused</errorDescription></UPnPError>"
        "</detail></s:Fault>"
    )


@contextmanager
def alone_on_loopback() -> Iterator[None]:
    """Let no other gateway of tests be there while entered: a search reaches all there are."""
    with (Path(tempfile.gettempdir()) / "unchained-tests-upnp.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def upnp_gateway(gateway: FakeGateway) -> Iterator[FakeGateway]:
    """Serve a gateway while entered, to searches that come by loopback alone. Raises OSError where
    there is no multicast on it."""
    with alone_on_loopback(), _serving(gateway):
        yield gateway


@contextmanager
def _serving(gateway: FakeGateway) -> Iterator[None]:
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, DESCRIPTION)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            action = self.headers["SOAPAction"].strip('"').rpartition("#")[2]
            self._answer(*gateway.act(action, body))

        def _answer(self, status: int, text: str) -> None:
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    location = f"http://{LOOPBACK}:{server.server_address[1]}/root.xml"
    answer = (
        f"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: {DEVICE}\r\n"
        f"USN: uuid:1::{DEVICE}\r\nEXT:\r\nSERVER: test UPnP/1.1\r\nLOCATION: {location}\r\n\r\n"
    ).encode()
    search = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    search.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        search.bind((GROUP, SEARCH_PORT))
        member = struct.pack("4s4s", socket.inet_aton(GROUP), socket.inet_aton(LOOPBACK))
        search.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    except OSError:
        server.server_close()
        search.close()
        raise
    search.settimeout(0.1)

    def be_found() -> None:
        while not closing.is_set():
            try:
                asked, place = search.recvfrom(2048)
            except TimeoutError:
                continue
            if b"M-SEARCH" in asked and DEVICE.encode() in asked:
                search.sendto(answer, place)

    threads = [threading.Thread(target=run) for run in (be_found, server.serve_forever)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        closing.set()
        server.shutdown()
        for thread in threads:
            thread.join()
        server.server_close()
        search.close()
