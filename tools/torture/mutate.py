"""Break files: their bytes, or values of the JSON inside. The same `rng` breaks the same."""

import contextlib
import copy
import random
from collections.abc import Callable
from typing import Any

__all__ = ["broken_bytes", "broken_json"]

HEAD = 256  # bytes at the beginning, where headers are: half of all breaks happen there
EXTREMES = (
    b"\x00", b"\xff", b"\x7f", b"\x80", b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x01\x00\x00\x00", b"\xff" * 8, b"\xff\xff",
)  # fmt: skip


def place(data: bytearray, rng: random.Random) -> int:
    end = min(HEAD, len(data)) if rng.random() < 0.5 else len(data)
    return rng.randrange(end)


def flip_bits(data: bytearray, rng: random.Random, other: bytes) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        data[place(data, rng)] ^= 1 << rng.randrange(8)


def truncate(data: bytearray, rng: random.Random, other: bytes) -> None:
    del data[rng.randrange(len(data)) :]


def remove(data: bytearray, rng: random.Random, other: bytes) -> None:
    at = place(data, rng)
    del data[at : at + rng.choice((1, 2, 4, 16, 256))]


def insert(data: bytearray, rng: random.Random, other: bytes) -> None:
    at = place(data, rng)
    data[at:at] = rng.randbytes(rng.choice((1, 4, 64)))


def repeat(data: bytearray, rng: random.Random, other: bytes) -> None:
    at = place(data, rng)
    piece = data[at : at + rng.randrange(1, 512)]
    data[at:at] = piece * rng.choice((1, 2, 16))


def edit_length(data: bytearray, rng: random.Random, other: bytes) -> None:
    """What looks like a length or an offset becomes another, or an extreme one."""
    order: Any = rng.choice(("big", "little"))
    at = place(data, rng)
    for _ in range(64):
        width = rng.choice((2, 4))
        at = place(data, rng)
        if 0 < int.from_bytes(data[at : at + width], order) <= len(data):
            break
    if rng.random() < 0.5:
        value = rng.choice(EXTREMES)
    else:
        found = int.from_bytes(data[at : at + 4], order)
        value = ((found + rng.choice((-1, 1, 2, 255, 65536))) % 2**32).to_bytes(4, order)
    data[at : at + len(value)] = value


def splice(data: bytearray, rng: random.Random, other: bytes) -> None:
    """The rest of the file is another's, from some place on."""
    data[rng.randrange(len(data)) :] = other[rng.randrange(len(other)) :]


def swap_header(data: bytearray, rng: random.Random, other: bytes) -> None:
    size = rng.choice((4, 12, 32, 128))
    data[:size] = other[:size]


BREAKS: tuple[Callable[[bytearray, random.Random, bytes], None], ...] = (
    flip_bits, flip_bits, truncate, remove, insert, repeat, edit_length, edit_length, splice,
    swap_header,
)  # fmt: skip


def broken_bytes(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """The file with one to three breaks; pieces of `other` may be spliced in."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if content:
            rng.choice(BREAKS)(content, rng, other or data)
    return bytes(content)


# --- JSON ---


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


VALUES: tuple[Callable[[random.Random], Any], ...] = (
    lambda rng: None,
    lambda rng: rng.random() < 0.5,
    lambda rng: rng.choice(
        (0, -1, 1, 3, 7, 300, 3000, 9000, 30_000, 999_999, 10**7, 2**31, 2**63, 10**30)
    ),
    lambda rng: rng.choice((0.5, -0.5, 1e-300, 1e300, float("nan"), float("inf"), -0.0)),
    lambda rng: rng.choice(("", " ", "1", "nan", "../../x", "=1+1", "<img src=x>", "![x](y)")),
    lambda rng: rng.choice(("\u202egpj.exe", "\x1b[2J", "\ud800", "é\u0301", "\x00", "😀" * 60)),
    lambda rng: "a" * rng.choice((101, 201, 100_000)),
    lambda rng: [],
    lambda rng: {},
    lambda rng: [rng.choice((1, "happy", None))] * rng.choice((1, 2, 1001)),
    lambda rng: nested(rng.choice((2, 100, 900))),
    lambda rng: {"a": {"b": [1]}},
)


def places_in(value: Any) -> list[tuple[Any, Any]]:
    """(container, key or index) of every value inside, however deep."""
    found: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        found.append((value, key))
        if isinstance(inner, dict | list):
            found += places_in(inner)
    return found


def broken_json(value: Any, rng: random.Random) -> Any:
    """A copy with one to three values of another type, size or place; sometimes all of it."""
    if rng.random() < 0.03:
        return rng.choice(VALUES)(rng)
    value = copy.deepcopy(value)
    with contextlib.suppress(RecursionError):  # what is nested 10,000 deep is not copied again
        change(value, rng)
    return value


def change(value: Any, rng: random.Random) -> None:
    """Changes one to three values inside `value`."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = places_in(value)
        if not places:
            return
        container, key = rng.choice(places)
        kind = rng.random()
        if kind < 0.15:
            del container[key]
        elif kind < 0.25 and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        elif kind < 0.35 and isinstance(container, dict):
            container[rng.choice(("", "size", "mode", "x" * 300, "\u202e", "class_names"))] = (
                rng.choice(VALUES)(rng)
            )
        elif kind < 0.45:
            other, place_of = rng.choice(places)
            container[key] = copy.deepcopy(other[place_of])
        else:
            container[key] = rng.choice(VALUES)(rng)
