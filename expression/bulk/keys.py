"""Which pictures are labelled already: 16 bytes for each, whatever the length of its name.

Why: ten million names in a Python set take more than a gigabyte, their keys here 160 MB.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np

__all__ = ["KEY_BYTES", "SeenKeys", "key_of"]

KEY_BYTES = 16


def key_of(name: str) -> bytes:
    """The key of a picture or film, from its name; also of a name that is no UTF-8."""
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


class SeenKeys:
    """A set of keys that only grows, in one sorted array."""

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self._keys = np.unique(np.array(list(keys), f"S{KEY_BYTES}"))

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, keys: Sequence[bytes] | np.ndarray) -> list[int]:
        """Add keys; returns the indices of those that were new, each once, in order."""
        if len(keys) == 0:
            return []
        given, first = np.unique(np.asarray(keys, f"S{KEY_BYTES}"), return_index=True)
        places = np.searchsorted(self._keys, given)
        inside = places < len(self._keys)
        new = np.ones(len(given), bool)
        new[inside] = self._keys[places[inside]] != given[inside]
        self._keys = np.insert(self._keys, places[new], given[new])
        return sorted(first[new].tolist())
