"""The folder of results: parquet files, each whole or absent, and a manifest of what they are.

    DIR/manifest.json           settings, checkpoint, schema version, sources; parts and counts
    DIR/faces/part-….parquet    one row a face
    DIR/films/….json            of each film: frames, seconds, tracks
    DIR/pieces/                 of films that are not finished yet

A part is named by the keys of its pictures and gets its name when it is complete: on a file system
by a rename, in an object store because an object appears whole. So what has a name is done, and no
list of what is done can disagree with it.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from expression.bulk.stores import first_words, store_errors, store_of
from expression.files import atomic_write, shown
from expression.output_files import check_folder

__all__ = ["FACES", "FILMS", "MANIFEST", "PIECES", "Results"]

MANIFEST, LOCK = "manifest.json", ".lock"
FACES, FILMS, PIECES = FOLDERS = "faces", "films", "pieces"
TEMPORARY = re.compile(r"\.[\w-]+(\.\d+\.tmp)?\.(parquet|json)")
FIXED = ("schema_version", "sources", "model", "settings")  # what no second run may change


class Results:
    """`out` is a folder, or an address such as s3://bucket/labels."""

    def __init__(self, out: str) -> None:
        self.out = out
        self.fs, self.root = store_of(out)
        self.local = isinstance(self.fs, LocalFileSystem)
        self.manifest: dict[str, Any] = {}

    @contextmanager
    def opened(self, about: Mapping[str, Any]) -> Iterator["Results"]:
        """The results of one run; `about` holds FIXED.

        Raises ValueError where the folder is another run's: other settings, with what differs; a
        run that is going on (on file systems; an object store cannot tell); files of others.
        """
        self.prepare()
        with self.locked():
            self.manifest = self.read_manifest() or {}
            if self.manifest:
                self.compare(about)
            else:
                self.manifest = dict(about)
                self.write_manifest()
            self.sweep()
            yield self

    def prepare(self) -> None:
        if self.local:
            check_folder(Path(self.root))
        with store_errors(self.out):
            for folder in FOLDERS:
                self.fs.makedirs(f"{self.root}/{folder}", exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One run at a time; the system lets go of the lock of a process that was killed."""
        if not self.local or os.name == "nt":
            yield
            return
        import fcntl

        with open(Path(self.root, LOCK), "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"another run is writing into {shown(self.out)}; wait for it, or give another "
                    "--out"
                ) from None
            except OSError:  # a file system without locks
                pass
            yield

    def read_manifest(self) -> dict[str, Any] | None:
        path = f"{self.root}/{MANIFEST}"
        if not self.fs.exists(path):
            return None
        try:
            found = json.loads(self.fs.cat_file(path))
            missing = [key for key in FIXED if key not in found]
        except (ValueError, TypeError):
            missing = ["JSON"]
        if missing:
            raise ValueError(
                f"{shown(self.out)}/{MANIFEST} is not of this program (without {missing[0]}); give "
                "another --out"
            )
        return dict(found)

    def compare(self, about: Mapping[str, Any]) -> None:
        """Raises ValueError, with what differs, where the folder holds the results of other
        settings."""
        before, now = flat({k: self.manifest[k] for k in FIXED}), flat({k: about[k] for k in FIXED})
        differ = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
        if differ:
            words = "; ".join(
                f"{key} was {shown(before.get(key))}, now {shown(now.get(key))}" for key in differ
            )
            raise ValueError(
                f"{shown(self.out)} holds labels of another run ({words}); give another --out, or "
                "run it as before"
            )

    def write_manifest(self, **more: Any) -> None:
        self.manifest |= more
        text = json.dumps(self.manifest, indent=1) + "\n"
        self.put(MANIFEST, text.encode())

    def put(self, name: str, content: bytes) -> None:
        """Write a file whole."""
        if not self.local:
            self.fs.pipe_file(f"{self.root}/{name}", content)
            return
        path = Path(self.root, name)
        hidden = path.with_name(f".{path.name}")  # a half one must not match *.parquet
        with atomic_write(hidden) as file:
            file.write(content)
        os.replace(hidden, path)

    def sweep(self) -> None:
        """Delete what a killed run left half written; nobody else writes while this one does."""
        for folder in FOLDERS if self.local else ():
            for entry in os.scandir(Path(self.root, folder)):
                if TEMPORARY.fullmatch(entry.name):
                    os.unlink(entry.path)

    def names(self, folder: str) -> list[str]:
        """The files of one of the folders that are complete, sorted."""
        self.fs.invalidate_cache()
        try:
            listed = self.fs.ls(f"{self.root}/{folder}", detail=False)
        except FileNotFoundError:  # object stores have no empty folders
            return []
        names = [str(path).rpartition("/")[2] for path in listed]
        return sorted(name for name in names if name.endswith(".parquet") and name[0] != ".")

    def parts(self) -> list[str]:
        """The names of the parts that are complete."""
        return [name for name in self.names(FACES) if name.startswith("part-")]

    # --- films ---

    def put_piece(self, key: bytes, number: int, table: pa.Table) -> None:
        file = BytesIO()
        pq.write_table(table, file, compression="zstd")
        self.put(f"{PIECES}/{piece_name(key, number)}", file.getvalue())

    def piece(self, key: bytes, number: int) -> pa.Table:
        with self.fs.open(f"{self.root}/{PIECES}/{piece_name(key, number)}", "rb") as file:
            return pq.read_table(file)

    def pieces(self) -> set[tuple[bytes, int]]:
        """(key of a film, number of a piece) of all that are there."""
        words = [name.removesuffix(".parquet").rpartition("-") for name in self.names(PIECES)]
        return {(bytes.fromhex(key), int(number)) for key, _, number in words}

    def drop_piece(self, key: bytes, number: int) -> None:
        path = f"{self.root}/{PIECES}/{piece_name(key, number)}"
        if self.fs.exists(path):
            self.fs.rm_file(path)

    def put_film(self, key: bytes, about: Mapping[str, Any]) -> None:
        self.put(f"{FILMS}/{key.hex()}.json", (json.dumps(about, indent=1) + "\n").encode())

    def keys(self) -> Iterator[list[bytes]]:
        """The keys of all pictures that are done, a part at a time.

        Raises ValueError for a part that cannot be read.
        """
        for name in self.parts():
            try:
                with self.fs.open(f"{self.root}/{FACES}/{name}", "rb") as file:
                    keys = pq.read_table(file, columns=["key"])["key"]
            except (OSError, KeyError, pa.ArrowInvalid) as error:
                raise ValueError(
                    f"{shown(self.out)}/{FACES}/{name} cannot be read ({first_words(error)}); "
                    "delete it, and its pictures are labelled again"
                ) from None
            yield pc.unique(keys).to_pylist()

    def write_part(self, tables: Sequence[pa.Table], keys: Iterable[bytes]) -> str:
        """The rows of some pictures as one part; returns its name."""
        file = BytesIO()
        pq.write_table(pa.concat_tables(tables), file, compression="zstd")
        name = f"part-{part_name(keys)}.parquet"
        self.put(f"{FACES}/{name}", file.getvalue())
        return name


def piece_name(key: bytes, number: int) -> str:
    return f"{key.hex()}-{number:06}.parquet"


def part_name(keys: Iterable[bytes]) -> str:
    """The same for the same pictures, in whatever order they were answered."""
    return blake2b(b"".join(sorted(keys)), digest_size=8).hexdigest()


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """{"settings.whole": False, …} of nested dicts."""
    if not isinstance(value, Mapping):
        return {name: value}
    found: dict[str, Any] = {}
    for key, inside in value.items():
        found |= flat(inside, f"{name}.{key}" if name else str(key))
    return found
