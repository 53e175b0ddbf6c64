"""A server for programs: a picture by HTTP → its faces and the expression that each shows, as JSON.

    python -m expression.server --port 8000          (or: expression-server)
    curl --data-binary @photo.jpg http://127.0.0.1:8000/predict

Why: the demo is a page for people, and needs gradio. This one is small, answers many clients in
batches (see `expression.request_batches`), says when it is full, and keeps nothing: no picture is
written to the disk, nothing that was sent is logged. Needs the extra `server`.
"""

import argparse
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from expression.app.serving import Serving
from expression.extras import install_command
from expression.face_prediction import check_min_confidence
from expression.files import shown
from expression.memory import give_back_large_blocks
from expression.predictor import ExpressionPredictor
from expression.request_batches import Batching
from expression.terminal import escape_unprintable

__all__ = ["main"]

GRACE = 30  # seconds that a stopping server gives to what it took in


def arguments_parser() -> argparse.ArgumentParser:
    from expression.server_uploads import Uploads

    how, uploads = Batching(), Uploads()
    parser = argparse.ArgumentParser(
        description="Answer pictures by HTTP, for programs: see / and /openapi.json."
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="0.0.0.0: for other machines (default: this one alone)")
    add("--port", type=int, default=8000, help="0: any free one (default: 8000)")
    add(
        "--checkpoint",
        help="a file, a name of `predict.py --list` (default: its first), or hf:owner/name",
    )
    add("--min-confidence", type=float, metavar="P",
        help='answer "not sure" below this probability, default the checkpoint\'s')  # fmt: skip
    add("--allow-host", action="append", default=[], metavar="NAME",
        help="a name that this server is asked by, a proxy's say; may be repeated")  # fmt: skip
    add("--queue", type=int, default=how.queue, metavar="N",
        help=f"pictures that wait; more are told to come later (default: {how.queue})")  # fmt: skip
    add("--batch", type=int, default=how.pictures, metavar="N",
        help=f"pictures answered together (default: {how.pictures})")  # fmt: skip
    add("--wait", type=float, default=how.milliseconds, metavar="MS",
        help=f"ms that a single one waits for others (default: {how.milliseconds:g})")  # fmt: skip
    add("--max-mb", type=float, default=uploads.largest / 1e6, metavar="MB",
        help=f"of a picture's file (default: {uploads.largest / 1e6:g})")  # fmt: skip
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until it is stopped; exit code 0, or 2 where it cannot be served."""
    escape_unprintable()
    give_back_large_blocks()
    try:  # the command is installed without the extra, too
        from expression.server_app import make_app
        from expression.server_uploads import Uploads
    except ImportError as error:
        return refused(f"{error}; the server needs more packages: {install_command('server')}")
    args = arguments_parser().parse_args(arguments)
    serving = Serving(args.host, args.port, names=tuple(args.allow_host))
    try:
        if args.min_confidence is not None:
            check_min_confidence(args.min_confidence, "--min-confidence")
        how, uploads = Batching(args.queue, args.batch, args.wait), Uploads.up_to(args.max_mb)
        predictor = ExpressionPredictor(args.checkpoint, min_confidence=args.min_confidence)
        app = make_app(predictor, serving, how, uploads)
        listening = listen(serving)
    except (OSError, ValueError, ImportError) as error:
        return refused(str(error))
    with listening:
        port = listening.getsockname()[1]
        serve(app, replace(serving, port=port), listening, predictor.path.stem)
    return 0


def refused(reason: str) -> int:
    print(f"error: {shown(reason)}", file=sys.stderr)
    return 2


def listen(serving: Serving) -> socket.socket:
    """The server's socket. Raises OSError, naming the place, where it is taken or not ours."""
    family = socket.AF_INET6 if ":" in serving.host else socket.AF_INET
    try:
        made = socket.create_server((serving.host, serving.port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        place, reason = f"{serving.host}:{serving.port}", getattr(error, "strerror", None) or error
        raise OSError(f"{place} cannot be served ({reason}); try --port") from None
    # asyncio does so for its own sockets alone. Else the second packet of each answer waits for the
    # client's word that the first has come, 40 ms on Linux
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def serve(app: Any, serving: Serving, listening: socket.socket, model: str) -> None:
    """Answer until Ctrl-C or SIGTERM; what was taken in before is answered still."""
    import uvicorn

    if serving.open_to_others:
        print("note: others can send pictures here. Show faces only of people who agree.")
    print(
        f"serving {shown(model)} at {' and '.join(serving.addresses())} (Ctrl-C stops)", flush=True
    )
    # The protocol and loop that the extra brings, also where faster ones are installed: what is
    # measured is what is served. No access log: nothing that was sent is kept.
    config = uvicorn.Config(
        app, http="h11", ws="none", loop="asyncio", lifespan="on", access_log=False,
        log_level="warning", server_header=False, timeout_graceful_shutdown=GRACE,
    )  # fmt: skip
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again once it has stopped
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    sys.exit(main())
