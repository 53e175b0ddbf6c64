"""Shares of memory that threads wait for.

Why: what one picture takes is bounded, but not how many are open at once: 24 pictures of 100
megapixels, 9 MB as files, took 9.7 GB. What is large waits until there is room; what is small goes
on beside it.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock

__all__ = ["WORKING", "HeldPictures", "Share", "give_back_large_blocks"]

LARGE = 4 << 20  # bytes
MMAP_THRESHOLD = -3  # its number in glibc's malloc.h


def give_back_large_blocks() -> None:
    """Have large blocks go back to the system when they are freed; for programs, where they start.

    glibc learns to keep blocks of up to 32 MB for each thread, and pillow's pictures are made of
    16: four threads that opened one large picture each kept 1.6 GB. Elsewhere nothing is changed.
    """
    try:
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, LARGE)
    except (OSError, AttributeError, TypeError):  # another libc; Windows has no such library
        pass


class Share:
    """So many bytes for all threads together. Who asks first is served first, and what is larger
    than the whole share has all of it for itself."""

    def __init__(self, most: float) -> None:
        self.most, self.taken = most, 0.0
        self._changed, self._turn = Condition(), Lock()

    @contextmanager
    def take(self, count: float) -> Iterator[None]:
        """Waits until there is room for `count` bytes, and keeps it until the end of the block."""
        count = min(count, self.most)
        with self._turn, self._changed:  # the turn: nobody small overtakes a large one for ever
            self._changed.wait_for(lambda: self.taken + count <= self.most)
            self.taken += count
        try:
            yield
        finally:
            with self._changed:
                self.taken -= count
                self._changed.notify_all()


# What decoding pictures and searching them for faces takes, of all threads of this program
WORKING = Share(450_000_000)


class HeldPictures:
    """Opened pictures that wait for their turn, in groups that are answered in order.

    The group whose turn it is always goes on: all others may have to wait for it.
    """

    def __init__(self, most: float) -> None:
        self.most, self.taken, self.current = most, 0.0, 0
        self._changed = Condition()

    def expect(self, count: float, group: int) -> None:
        """Waits until there is room for a picture of so many bytes, or it is this group's turn."""
        with self._changed:
            self._changed.wait_for(lambda: self.taken + count <= self.most or group <= self.current)
            self.taken += count

    def add(self, count: float) -> None:
        """So many bytes more than expected, or fewer, below 0; also when pictures are given up."""
        with self._changed:
            self.taken += count
            self._changed.notify_all()

    def turn(self, group: int) -> None:
        """From now on it is this group's turn."""
        with self._changed:
            self.current = group
            self._changed.notify_all()
