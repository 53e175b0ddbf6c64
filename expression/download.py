"""Fetch a picture from a web address: limited in time and size, never from the own network.

Why: somebody who can give an address to a server could otherwise make it read the network it runs
in, download without end, or wait for ever. So each host is looked up once, all its addresses must
be public, and the connection goes to one of those addresses; the same after every redirect.
httpx and urllib look the host up again when they connect, and limit the time of single reads only.
"""

import io
import queue
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse, responses
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from expression.file_kinds import looks_like_a_picture
from expression.public_addresses import is_public

__all__ = ["fetch"]

# What servers call a file whose kind they do not know
UNKNOWN = frozenset(
    "application/octet-stream binary/octet-stream application/x-octet-stream application/binary "
    "application/x-binary application/unknown application/x-unknown unknown/unknown */* "
    "application/force-download application/x-force-download application/download "
    "application/x-download multipart/form-data text/plain".split()
)


def fetch(
    url: str,
    *,
    timeout: float = 10.0,
    max_bytes: int = 20_000_000,
    allow_private: bool = False,
    max_redirects: int = 3,
    kinds: Sequence[str] = ("image/",),
) -> bytes:
    """The bytes behind an http(s) address, which a stranger may have chosen.

    Proxies of the environment are not used, because what they connect to cannot be checked.
    `timeout`, in seconds, is for everything together; `kinds` are beginnings of the content types
    that are taken. A picture is also taken by how it begins, where the type is missing or only says
    that the server does not know it, such as application/octet-stream or text/plain. Raises
    ValueError for what is refused (scheme, credentials, address, type, size, redirects),
    TimeoutError, and ConnectionError for other failures, also for an answer such as 404.
    """
    deadline = time.monotonic() + timeout
    for _ in range(max_redirects + 1):
        parts, host, port = check_url(url)
        shown = f"{parts.scheme}://{parts.netloc}{parts.path}"  # a query may hold a secret
        try:
            addresses = resolve(host, left(deadline))
            private = [address for address in addresses if not is_public(address)]
            if private and not allow_private:
                raise ValueError(
                    f"{shown} leads to {private[0]}, an address inside the own network; "
                    "allow it with --allow-private"
                )
            with dial(addresses, port, deadline, host if parts.scheme == "https" else None) as link:
                answer = get(Stream(link, deadline), parts, host, shown, max_bytes, kinds)
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
    """(the address in parts, its host in ASCII, its port). Raises ValueError, see `fetch`."""
    scheme, host, port = "", "", None
    try:
        parts = urlsplit(url if url.isprintable() else "")
        scheme, port = parts.scheme, parts.port
        host = (parts.hostname or "").encode("idna").decode()
    except ValueError:  # not a port, a bracket without its partner, a label too long
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


def left(deadline: float) -> float:
    """Seconds until the deadline, more than 0; raises TimeoutError after it."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def resolve(host: str, timeout: float) -> list[str]:
    """The host's IP addresses; in a thread, because the system's resolver has no time limit."""
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
        try:  # one that does not answer must leave time for the next
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
    """A socket as `http.client` reads it; every read and write ends at the deadline.

    The socket's own limit is for one read: a server that sends byte after byte never exceeds it.
    """

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


def check_kind(kind: str, head: bytes, shown: str, kinds: Sequence[str]) -> None:
    """Raises ValueError where an answer of an unwanted type begins like nothing that is wanted."""
    pictures = "image/" in kinds
    unknown = not kind or "/" not in kind or kind in UNKNOWN
    if unknown and (looks_like_a_picture(head) if pictures else kind != "text/plain"):
        return
    wanted = "picture" if pictures else "file of that kind"
    found = repr(kind[:60]) if kind else "of no stated type"
    raise ValueError(f"{shown} is {found}, no {wanted}; give the {wanted}'s own address")


def get(
    stream: Stream, parts: SplitResult, host: str, shown: str, max_bytes: int, kinds: Sequence[str]
) -> bytes | str:
    """One GET over an open connection: the body, or where a redirect leads."""
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    target = quote(target, safe="%/?:@!$&'()*+,;=~[]|")
    named = (f"[{host}]" if ":" in host else host) + (f":{parts.port}" if parts.port else "")
    accepted = ", ".join(f"{kind}*" if kind.endswith("/") else kind for kind in kinds)
    stream.sendall(
        f"GET {target} HTTP/1.1\r\nHost: {named}\r\nAccept: {accepted}\r\n"
        "Accept-Encoding: identity\r\nUser-Agent: expression-pictures/1.0\r\n"
        "Connection: close\r\n\r\n".encode("ascii")
    )
    response = HTTPResponse(stream, method="GET")  # type: ignore[arg-type]  # uses only `makefile`
    response.begin()
    if response.status in (301, 302, 303, 307, 308) and response.getheader("Location"):
        return str(response.getheader("Location"))
    if response.status != 200:
        meaning = responses.get(response.status, "no success")
        raise HTTPException(f"it answered {response.status} {meaning}")
    kind = (response.getheader("Content-Type") or "").split(";")[0].strip().lower()
    announced, body = response.length, bytearray()
    if not kind.startswith(tuple(kinds)):
        body += response.read(64)
        check_kind(kind, bytes(body), shown, kinds)
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
