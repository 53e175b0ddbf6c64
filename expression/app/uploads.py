"""Delete uploads that were cut off in the middle.

Why: gradio writes an upload to a file tmpXXXXXXXX in its folder and moves it to a folder of its own
once it is whole. When a visitor hangs up before that, the file stays: `delete_cache` knows
whole uploads only.
"""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["AGE", "sweep_uploads", "swept_uploads"]

AGE = 600  # seconds since the last byte came; as long as whole uploads are kept
EVERY = 60  # seconds
UNFINISHED = re.compile(r"tmp[a-z0-9_]{8}")  # as Python's tempfile names them


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
