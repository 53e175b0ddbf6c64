"""Processes that were started by threads, and end with whoever started them."""

import threading
from typing import Any

__all__ = ["Children"]


class Children:
    """A context manager: leaving it kills what was added and still runs; nothing is added later.

    Enter it after a `ThreadPoolExecutor`, so that its threads do not wait for processes that
    nobody wants any more.
    """

    def __init__(self) -> None:
        self._running: list[Any] = []
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> "Children":
        return self

    def add(self, process: Any) -> Any:
        """A process that has been started: of `subprocess` or of `multiprocessing`."""
        with self._lock:
            if self._closed:
                process.kill()
                raise RuntimeError("the attack was interrupted")
            self._running.append(process)
        return process

    def remove(self, process: Any) -> None:
        """Kill it where it still runs, and forget it."""
        process.kill()
        if hasattr(process, "communicate"):
            process.wait()
        else:
            process.join()
        with self._lock:
            if process in self._running:
                self._running.remove(process)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            for process in self._running:
                process.kill()
