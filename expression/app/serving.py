"""Who can open the demo's page, and how: what goes with what, what is said of it.

Browsers give a camera only to pages opened by https or at localhost. So a phone in the same
network needs a certificate, and one elsewhere Gradio's server, which has one.
"""

import ipaddress
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from expression.app.certificate import make_certificate, own_addresses
from expression.app.hosts import HostCheck
from expression.app.uploads import QuietHangUps, swept_uploads

__all__ = ["HELP", "SESSIONS", "Serving"]

# Visitors whose state gradio keeps, about 0.3 MB each; every call of a program is one more. Who
# is forgotten loses only the mirror's last boxes.
SESSIONS = 200
SHARED = ".gradio.live"  # names that --share gives; gradio alone decides where they point

HELP = """\
where a camera works:
  this machine              python demo.py
  a phone in your network   python demo.py --host 0.0.0.0 --self-signed --password WORD
                            (the phone warns once: it does not know the certificate)
  a certificate you have    python demo.py --host 0.0.0.0 --ssl-certfile FILE --ssl-keyfile FILE
  anywhere                  python demo.py --share --password WORD
                            (through Gradio's server: needs the Internet, for up to a week)
  --host 0.0.0.0 alone      photos and videos, but no camera: browsers want https
  behind a proxy            python demo.py --allow-host NAME
                            (else only this machine's addresses and its own name are answered)
"""


@dataclass(frozen=True)
class Serving:
    """Where the page is served and who may open it; raises ValueError for what does not fit."""

    host: str = "127.0.0.1"
    port: int = 7860
    share: bool = False
    certificate: Path | None = None
    key: Path | None = None
    self_signed: bool = False
    user: str = "guest"
    password: str = ""  # none: whoever has the address may open the page
    names: tuple[str, ...] = ()  # further names of this page, of a proxy say

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("--ssl-certfile and --ssl-keyfile belong together; give both")
        if self.self_signed and self.certificate:
            raise ValueError("--self-signed makes a certificate; leave out --ssl-certfile")
        if self.share and (self.self_signed or self.certificate):
            raise ValueError("--share has a certificate already; leave out the others")
        for path in (self.certificate, self.key):
            if path is not None and not path.is_file():
                raise ValueError(f"there is no file {path}")

    @property
    def secure(self) -> bool:
        """Whether this machine answers by https."""
        return self.self_signed or self.certificate is not None

    @property
    def open_to_others(self) -> bool:
        """Whether another machine can open the page."""
        return self.share or not is_loopback(self.host)

    def answers_as(self, name: str) -> bool:
        """Whether a request for this host is answered (see `expression.app.hosts`).

        `name` is without a port, in lower case. Any IP address will do where others can come: no
        page of a stranger can have it as its name, and a container does not know its own.
        """
        named = {"localhost", self.host.lower(), *map(str.lower, self.names)}
        if name in named or is_loopback(name):
            return True
        if not self.open_to_others:
            return False
        own = socket.gethostname().lower()
        shared = self.share and name.endswith(SHARED)
        return shared or name in (own, f"{own}.local") or is_address(name)

    def addresses(self) -> list[str]:
        """Where to open the page: on this machine, then in its network."""
        everywhere = self.host in ("0.0.0.0", "::")
        hosts = ["127.0.0.1", *own_addresses()] if everywhere else [self.host]
        kind = "https" if self.secure else "http"
        bracketed = (f"[{host}]" if ":" in host else host for host in hosts)
        return [f"{kind}://{host}:{self.port}" for host in bracketed]

    def notes(self) -> list[str]:
        """What whoever starts it should know: cameras, and other people's faces."""
        told = []
        if self.password:
            told.append(f"the page asks for the name {self.user} and the password")
        if self.self_signed and not self.open_to_others:
            told.append("only this machine can open the page; for phones add --host 0.0.0.0")
        if self.open_to_others and not self.share and not self.secure:
            told.append("no camera on other machines: browsers want https; add --self-signed")
        if self.self_signed:
            told.append("browsers warn once that they do not know this certificate")
        if not self.open_to_others:
            return told
        told.append(
            "others can open this page: what they show comes to this machine"
            + (" through Gradio's server" if self.share else "")
            + ". Show faces only of people who agree"
        )
        if not self.password:
            told.append("whoever has the address may use it; --password WORD keeps strangers out")
        elif not self.share and not self.secure:
            told.append("without https the password can be read on the way; add --self-signed")
        return told

    def launch_settings(self, stack: ExitStack) -> dict[str, Any]:
        """Arguments of `gr.Blocks.launch`; a certificate made for it lasts as long as `stack`.

        Raises as `make_certificate`.
        """
        settings: dict[str, Any] = {
            "server_name": self.host, "server_port": self.port, "share": self.share,
            "state_session_capacity": SESSIONS,
            "app_kwargs": {
                "lifespan": swept_uploads,
                # what starlette's Middleware holds: class, arguments, arguments by name
                "middleware": [
                    (HostCheck, (), {"allowed": self.answers_as}),
                    (QuietHangUps, (), {}),
                ],
            },
        }  # fmt: skip
        if self.password:
            settings["auth"] = (self.user, self.password)
            settings["auth_message"] = f"The name is {self.user}."
        certificate, key = self.certificate, self.key
        if self.self_signed:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="expression-")))
            names = ["localhost", "127.0.0.1", "::1", socket.gethostname(), *own_addresses()]
            names += [] if self.host in ("0.0.0.0", "::") else [self.host]
            certificate, key = make_certificate(folder, names)
        if certificate:
            # gradio asks its own page whether it runs; the certificate may be of another name
            files = {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
            settings |= {**files, "ssl_verify": False}
        return settings


def is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
