"""Answer only requests that name this server: against DNS rebinding.

Why: a page of a stranger may let its own name point to 127.0.0.1. The browser then takes this
server for that page, and lets the page read every answer. The name stands in the Host header
of each request, so another name is refused. Gradio checks where a request comes from
(Origin), but believes any Host. Starlette's TrustedHostMiddleware takes a list of names; here
every IP address may be right, and what is refused should say what to do.
Needs nothing; works under any ASGI server.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["OWN_NAMES", "HostCheck", "host_name"]

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
OWN_NAMES = "answers under its own addresses only; whoever runs it can add a name by --allow-host"


def host_name(header: str) -> str:
    """The name of a Host header in lower case: "[::1]:7860" → "::1"; "" for what is no host."""
    found = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([^\s:/@\[\]]+?)\.?)(?::\d*)?", header.lower())
    return (found[1] or found[2]) if found else ""


class HostCheck:
    """ASGI middleware: where `allowed(name)` of the Host is false, `refusal` answers instead of
    the app: with status 403 and one sentence.

    The port is not compared: a name alone decides where a browser connects, and a tunnel
    (`ssh -L 8080:localhost:7860`) gives another port.
    """

    def __init__(
        self, app: App, allowed: Callable[[str], bool], refusal: App | None = None
    ) -> None:
        self.app = app
        self.allowed = allowed
        self.refusal = refusal or refuse_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            hosts = [value.decode("latin-1") for key, value in scope["headers"] if key == b"host"]
            if len(hosts) != 1 or not self.allowed(host_name(hosts[0])):
                if scope["type"] == "http":
                    await self.refusal(scope, receive, send)
                else:  # closed before it is accepted: the server answers 403
                    await send({"type": "websocket.close", "code": 1008})
                return
        await self.app(scope, receive, send)


async def refuse_page(scope: Scope, receive: Receive, send: Send) -> None:
    """The refusal of a page for people, as text."""
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": f"This page {OWN_NAMES}.\n".encode()})
