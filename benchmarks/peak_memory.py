"""The most memory that a process has held, told apart from the files that it maps; Linux only."""

import threading
from pathlib import Path

__all__ = ["PeakMemory"]


class PeakMemory(threading.Thread):
    """Samples this process, from `start()` until `stop` is set.

    `own` bytes are the process's; `mapped` are pages of mapped files in memory, which the kernel
    takes back when they are needed.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own, self.mapped, self.stop = 0, 0, threading.Event()

    def run(self) -> None:
        while not self.stop.wait(0.02):
            lines = Path("/proc/self/status").read_text().splitlines()
            told = dict(line.split(":", 1) for line in lines if line.startswith("Rss"))
            own, mapped = (int(told[name].split()[0]) << 10 for name in ("RssAnon", "RssFile"))
            self.own, self.mapped = max(self.own, own), max(self.mapped, mapped)
