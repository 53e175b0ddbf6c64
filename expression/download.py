"""Fetch a picture from a web address, and nothing else: in time, in size, not from inside.

Why: whoever can name an address to a server can otherwise make it read the network that it
stands in, download without end, or wait for ever. The host is looked up once, every address
it has must be public, and the connection goes to that very address.
Source: written for this project.
Needs only the standard library; copy freely (MIT, see LICENSE).
"""

import io
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse, responses
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

__all__ = ["fetch", "is_url"]


def is_url(name: object) -> bool:
    return isinstance(name, str) and name.lower().startswith(("http://", "https://"))


def fetch(
    url: str,
    *,
    timeout: float = 10.0,
    max_bytes: int = 20_000_000,
    allow_private: bool = False,
    max_redirects: int = 3,
) -> bytes:
    """The bytes behind an http(s) address, which a stranger may have chosen.

    The host is resolved here, every address checked and the checked one connected to, also
    after a redirect: a page must not reach the own network through this program. Proxies of
    the environment are not used, as nobody could check what they connect to. `timeout` is
    for everything together, in seconds. Raises ValueError for what is refused (scheme,
    credentials, address, type, size, redirects), TimeoutError, and ConnectionError for
    other failures, an answer such as 404 included.
    """
    deadline = time.monotonic() + timeout
    for _ in range(max_redirects + 1):
        parts, host, port = check_url(url)
        shown = f"{parts.scheme}://{parts.netloc}{parts.path}"  # a query may hold a secret
        try:
            addresses = resolve(host, left(deadline))
            inner = [address for address in addresses if not is_public(address)]
            if inner and not allow_private:
                raise ValueError(
                    f"{shown} leads to {inner[0]}, an address inside the own network; "
                    "--allow-private lets it"
                )
            with dial(addresses, port, deadline, host if parts.scheme == "https" else None) as link:
                answer = get(Stream(link, deadline), parts, host, shown, max_bytes)
        except TimeoutError:
            raise TimeoutError(
                f"{shown} took longer than {timeout:g} s; download it and give the file"
            ) from None
        except (OSError, HTTPException) as error:
            reason = str(getattr(error, "strerror", None) or error)
            reason = reason if reason.isprintable() else type(error).__name__
            raise ConnectionError(
                f"{shown} cannot be fetched ({reason}); check the address and the network"
            ) from None
        if isinstance(answer, bytes):
            return answer
        url = urljoin(url, answer)
    raise ValueError(f"{shown} leads on after {max_redirects} redirects; give the final address")


def check_url(url: str) -> tuple[SplitResult, str, int]:
    """(the address, what is asked of its host first; host in ASCII; port)."""
    scheme, host, port = "", "", None
    try:
        parts = urlsplit(url if url.isprintable() else "")
        scheme, port = parts.scheme, parts.port
        host = (parts.hostname or "").encode("idna").decode()
    except ValueError:  # a port or a bracket that is none, a label too long
        pass
    if not host or scheme not in ("http", "https"):
        raise ValueError(
            f"{url!r} is no web address; give one such as https://example.org/face.jpg"
        )
    if "@" in parts.netloc:
        raise ValueError(
            f"the address of {host} holds a user name or password; download it and give the file"
        )
    return parts, host, port or {"http": 80, "https": 443}[scheme]


def is_public(address: str) -> bool:
    """Whether an IP address lies in the open internet, as does what it wraps."""
    ip = ipaddress.ip_address(address)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.sixtofour or ip not in ipaddress.ip_network("2000::/3"):
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


def left(deadline: float) -> float:
    """Seconds until then, more than 0; raises TimeoutError after it."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def resolve(host: str, timeout: float) -> list[str]:
    """The host's IP addresses; in a thread, as the system's resolver knows no deadline."""
    answers: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(entry[4][0]) for entry in found)))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise OSError(f"the host {host} is not known") from answer
    return answer


def connect(address: str, port: int, timeout: float) -> socket.socket:
    return socket.create_connection((address, port), timeout)


def dial(
    addresses: Sequence[str], port: int, deadline: float, tls_host: str | None
) -> socket.socket:
    """A connection to the first address that answers; with TLS, its certificate checked."""
    failure = OSError("the host has no address")
    for tried, address in enumerate(addresses):
        try:  # a silent address must leave time for the next
            link = connect(address, port, left(deadline) / (len(addresses) - tried))
            break
        except OSError as error:
            failure = error
    else:
        raise failure
    if tls_host is None:
        return link
    try:
        link.settimeout(left(deadline))
        return ssl.create_default_context().wrap_socket(link, server_hostname=tls_host)
    except BaseException:
        link.close()
        raise


class Stream(io.RawIOBase):
    """A socket as `http.client` reads it, every wait cut to what the deadline leaves."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self.connection, self.deadline = connection, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.connection.settimeout(left(self.deadline))
        return self.connection.recv_into(buffer)

    def sendall(self, content: bytes) -> None:
        self.connection.settimeout(left(self.deadline))
        self.connection.sendall(content)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)


def get(stream: Stream, parts: SplitResult, host: str, shown: str, max_bytes: int) -> bytes | str:
    """One GET over an open connection: the body, or where a redirect leads."""
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    target = quote(target, safe="%/?:@!$&'()*+,;=~[]|")
    named = (f"[{host}]" if ":" in host else host) + (f":{parts.port}" if parts.port else "")
    stream.sendall(
        f"GET {target} HTTP/1.1\r\nHost: {named}\r\nAccept: image/*\r\n"
        "Accept-Encoding: identity\r\nUser-Agent: expression-pictures/1.0\r\n"
        "Connection: close\r\n\r\n".encode("ascii")
    )
    response = HTTPResponse(stream, method="GET")  # type: ignore[arg-type]  # needs makefile alone
    response.begin()
    if response.status in (301, 302, 303, 307, 308) and response.getheader("Location"):
        return str(response.getheader("Location"))
    if response.status != 200:
        meaning = responses.get(response.status, "no success")
        raise HTTPException(f"it answered {response.status} {meaning}")
    kind = (response.getheader("Content-Type") or "").split(";")[0].strip().lower()
    if kind and kind != "application/octet-stream" and not kind.startswith("image/"):
        raise ValueError(f"{shown} is {kind[:60]!r}, no picture; give the picture's own address")
    announced, body = response.length, bytearray()
    while (announced or 0) <= max_bytes and len(body) <= max_bytes:
        part = response.read(65536)
        body += part
        if not part:
            break
    else:
        raise ValueError(
            f"{shown} is larger than {max_bytes / 1e6:g} MB; download it and give the file"
        )
    if announced is not None and len(body) < announced:
        raise HTTPException(f"it broke off after {len(body)} of {announced} bytes")
    return bytes(body)
