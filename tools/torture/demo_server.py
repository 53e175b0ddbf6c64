"""The demo as a process of its own, with a folder for all that it keeps."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.harness import free_port
from tools.torture.record import ROOT

__all__ = ["Server", "started"]


@dataclass
class Server:
    """A running demo: its address, process, and the folder that holds its temporary files."""

    address: str
    process: Any
    folder: Path
    log: Path

    def files(self) -> list[str]:
        return sorted(
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if not path.is_dir()
        )


@contextlib.contextmanager
def started(home: Path) -> Iterator[Server]:
    """The demo, stopped kindly in the end (SIGTERM); `home` is its folder and its temporary one."""
    folder, log = home / "demo", home / "log.txt"
    for name in ("cwd", "tmp"):
        (folder / name).mkdir(parents=True)
    port = free_port()
    environment = os.environ | {
        "TMPDIR": str(folder / "tmp"), "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    environment.pop("GRADIO_TEMP_DIR", None)
    words = [sys.executable, str(ROOT / "demo.py"), "--port", str(port)]
    with log.open("w") as file:
        process = subprocess.Popen(
            words, cwd=folder / "cwd", env=environment, stdout=file, stderr=file
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(address, timeout=5)
                break
            if process.poll() is not None:
                raise RuntimeError(f"the demo does not start: {log.read_text()[-300:]}")
            time.sleep(0.2)
        yield Server(address, process, folder, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
