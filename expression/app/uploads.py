"""Uploads: a folder of this server's own, what is cut off in the middle, what a kill leaves.

Why: gradio writes an upload to a file tmpXXXXXXXX in its folder and moves it to a folder of its own
once it is whole. When a visitor hangs up before that, the file stays: `delete_cache` knows
whole uploads only, and a killed server deletes nothing. All programs with gradio share one folder;
so that other people's files are never touched, this one has its own, with the number of its process
in the name.
"""

import asyncio
import os
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from expression.files import is_alive

__all__ = [
    "AGE", "QuietHangUps", "sweep_folders", "sweep_uploads", "swept_uploads", "upload_folder",
]  # fmt: skip

AGE = 600  # seconds since the last byte came; as long as whole uploads are kept
EVERY = 60  # seconds
FOLDER = "GRADIO_TEMP_DIR"  # environment variable: where gradio keeps uploads
OURS = re.compile(r"expression-demo-(\d+)-[a-z0-9_]{8}")
UNFINISHED = re.compile(r"tmp[a-z0-9_]{8}")  # as Python's tempfile names them


@contextmanager
def upload_folder() -> Iterator[Path]:
    """A new folder for gradio's uploads, deleted at the end; what killed servers left goes first.

    A folder that is named in the environment is used as it is, and nothing in it deleted.
    """
    if given := os.environ.get(FOLDER):
        yield Path(given)
        return
    sweep_folders(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=f"expression-demo-{os.getpid()}-") as folder:
        os.environ[FOLDER] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop(FOLDER, None)


def sweep_folders(place: Path) -> int:
    """Delete the upload folders of this user's servers that run no more; how many.

    Where no process can be asked for (Windows), a folder goes a day after its last upload.
    """
    swept = 0
    with suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            found = OURS.fullmatch(entry.name)
            if not found or not entry.is_dir(follow_symlinks=False) or is_alive(int(found[1])):
                continue
            about = entry.stat(follow_symlinks=False)
            others = hasattr(os, "getuid") and about.st_uid != os.getuid()
            if others or (os.name == "nt" and time.time() - about.st_mtime < 86_400):
                continue
            shutil.rmtree(entry.path, ignore_errors=True)
            swept += 1
    return swept


class QuietHangUps:
    """ASGI middleware: a visitor who hangs up while uploading is no error of the server."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            # starlette's, by its name: it is gradio's requirement, and none of this package
            if type(error).__name__ != "ClientDisconnect":
                raise


def sweep_uploads(folder: Path, age: float = AGE) -> int:
    """Delete the unfinished uploads of a folder that did not grow for `age` seconds; how many."""
    swept = 0
    with suppress(OSError), os.scandir(folder) as entries:  # no folder before the first upload
        for entry in entries:
            if UNFINISHED.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):  # another process was faster, or owns it
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > age:
                        os.unlink(entry)
                        swept += 1
    return swept


@asynccontextmanager
async def swept_uploads(app: Any) -> AsyncIterator[None]:
    """A lifespan of gradio's app: sweeps its upload folder at the start, then again and again."""

    async def again() -> None:
        while True:
            await asyncio.to_thread(sweep_uploads, Path(app.uploaded_file_dir))
            await asyncio.sleep(EVERY)

    task = asyncio.create_task(again())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
