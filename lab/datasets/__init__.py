"""Where faces come from: one `load` for every source, and facts about the data loaded.

Why: batches, training and measuring need one shape: a `DatasetDict` with `train`, `validation`,
`test`, an `image` column and a `label` column with class names. This registry finds the reader,
checks that shape, and says which source was taken and why.

    datasets.load("synthetic", train=500)     datasets.load("path/to/data")
    datasets.load("owner/name")               datasets.load("kaggle:owner/name")
    datasets.load()                           # EXPRESSION_DATA, hub, synthetic
"""

import hashlib
import inspect
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import datasets
from datasets import ClassLabel, Dataset, DatasetDict

from expression.files import shown
from expression.quiet_decoders import quiet_libtiff, quiet_pillow

from . import fer2013, ferplus, folder, hf_folder, hub, kaggle, muxspace, synthetic
from .ferplus_file import votes_file
from .hub import HubUnavailable
from .kaggle import KaggleUnavailable
from .splits import SPLITS, check_columns, rename_splits
from .table_rows import usable

__all__ = [
    "DEFAULT_HUB_ID",
    "FORMS",
    "SPLITS",
    "STAND_IN",
    "Form",
    "HubUnavailable",
    "KaggleUnavailable",
    "fingerprint",
    "load",
    "normalise",
    "origin",
    "report",
    "short_name",
    "slug",
    "summary",
]

DEFAULT_HUB_ID = "sxdave/emotion_detection"
# Synthetic faces in the default set's place: its classes and its sizes.
STAND_IN = {"class_names": ("happy", "neutral", "sad"), "train": 157, "validation": 45, "test": 23}


class Form(NamedTuple):
    """A kind of folder or file that can be read: its name, its test and its reader."""

    name: str
    accepts: Callable[[Path], bool]
    load: Callable[..., DatasetDict]


FORMS: tuple[Form, ...] = (  # the first form that accepts a path reads it
    Form(
        "Hugging Face folder (data/train-*.parquet, or save_to_disk)",
        hf_folder.is_hf_folder,
        hf_folder.load,
    ),
    Form("FER2013 as Kaggle's CSV (fer2013.csv)", fer2013.is_fer2013, fer2013.load),
    Form(
        "Muxspace clone (images/ and data/legend.csv) or its tar or zip",
        muxspace.is_muxspace,
        muxspace.load,
    ),
    Form(
        "image folders (train/<class>/ and test/<class>/, or <class>/ for two classes or more)",
        folder.is_folder,
        folder.load,
    ),
)


def load(
    where: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    timeout: float = 5.0,
    strict: bool = False,
    say: Callable[[str], Any] = print,
    votes: str | os.PathLike[str] | None = None,
    votes_by: Literal["row", "name", "either"] = "row",
    **kwargs: Any,
) -> DatasetDict:
    """Splits `train`, `validation`, `test` with columns `image` and `label` (named classes).

    `where` is "synthetic", a path, a hub id "owner/name", or "kaggle:owner/name"; `kwargs` go to
    that source (for example `size`, `class_names`, `revision`). Rows that cannot be used are left
    out and listed by `report`; with `strict` the first of them raises ValueError.

    `votes` names FER+'s file, by its path or its web address: FER2013, in whatever form, gains a
    column `votes`, joined by `votes_by`, see `ferplus.join_votes`.

    None takes what the environment variable EXPRESSION_DATA names, else the default set from the
    hub (waiting `timeout` seconds for an answer), else synthetic faces drawn from `seed`; `say` is
    called with one sentence: which it took and why. `kwargs` are then options of the synthetic
    faces. An error in the data that EXPRESSION_DATA names is raised, never passed over.

    Raises FileNotFoundError for a missing path, ValueError for data that do not fit,
    HubUnavailable for a hub id found neither on the hub nor in a cache, KaggleUnavailable for
    Kaggle's.
    """
    given = "set EXPRESSION_DATA to" if where is None else "give --data PATH,"
    read = partial(
        _load_one, seed=seed, timeout=timeout, strict=strict, say=say,
        instead=f"{given} a folder that holds it",
    )  # fmt: skip
    if votes is not None:
        read = partial(_with_votes, read, votes, votes_by, say)
    if where is not None:
        return read(where, kwargs)
    unknown = set(kwargs) - set(inspect.signature(synthetic.load).parameters)
    if unknown:
        raise TypeError(
            f"no option {', '.join(sorted(unknown))} for synthetic faces; options of "
            "another source go with its name: load('owner/name', ...)"
        )
    chosen = os.environ.get("EXPRESSION_DATA", "").strip()
    if chosen:
        try:
            splits = read(chosen, {})
        except (OSError, ValueError) as error:
            if hasattr(error, "add_note"):  # from Python 3.11
                error.add_note("EXPRESSION_DATA names it")
            raise
        say(f"Data: {origin(splits)}, because EXPRESSION_DATA names it.")
        return splits
    try:
        splits = read(DEFAULT_HUB_ID, {})
        say(f"Data: {origin(splits)}, because EXPRESSION_DATA is not set.")
    except HubUnavailable as error:
        splits = read("synthetic", STAND_IN | kwargs)
        say(
            f"Data: {origin(splits)} in place of photographs, because EXPRESSION_DATA is not set "
            f"and {error}."
        )
    return splits


def _with_votes(
    read: Callable[..., DatasetDict],
    votes: str | os.PathLike[str],
    votes_by: Literal["row", "name", "either"],
    say: Callable[[str], Any],
    where: str | os.PathLike[str],
    kwargs: dict[str, Any],
) -> DatasetDict:
    """What `read` gives, with the crowd's votes beside its faces."""
    if os.fspath(where) == "synthetic":
        raise ValueError("votes belong to FER2013, and drawn faces have none")
    path = votes_file(votes, say)
    return read(where, kwargs, join=partial(ferplus.join_votes, path=path, by=votes_by))


def _load_one(
    where: str | os.PathLike[str],
    kwargs: dict[str, Any],
    *,
    seed: int,
    timeout: float,
    strict: bool,
    say: Callable[[str], Any],
    instead: str,
    join: Callable[[DatasetDict], DatasetDict] = DatasetDict,
) -> DatasetDict:
    """The data that `where` names, passed through `join`, checked and marked with their origin.

    `instead` is what to do where the hub has them not.
    """
    quiet_pillow()
    quiet_libtiff()  # a broken picture is told by the readers, with its place
    name = os.fspath(where)
    path = Path(name).expanduser()
    if name == "synthetic":
        splits = normalise(synthetic.load(seed=seed, **kwargs), "synthetic faces")
        return _mark(splits, f"synthetic faces (seed {seed})")
    if path.exists():
        splits = join(rename_splits(_read_path(path, seed, strict, kwargs)))
        return _mark(normalise(splits, str(path)), f"folder {shown(_called(path))}")
    if name.startswith(kaggle.PREFIX):
        folder, handle = kaggle.download(name.removeprefix(kaggle.PREFIX), say)
        forms = [form.name for form in FORMS]
        path = kaggle.find_readable(folder, lambda p: any(f.accepts(p) for f in FORMS), forms)
        splits = join(rename_splits(_read_path(path, seed, strict, kwargs)))
        return _mark(normalise(splits, name), f"kaggle {handle}")
    if isinstance(where, str) and re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        try:
            options = {k: v for k, v in kwargs.items() if k != "class_names"}
            found = hub.load(name, timeout=timeout, **options)
            splits = join(usable(found, name, class_names=kwargs.get("class_names"), seed=seed,
                                 strict=strict, progress=sys.stderr.isatty()))  # fmt: skip
            return _mark(normalise(splits, name), f"hub {name}")
        except HubUnavailable as error:
            here = "" if name == DEFAULT_HUB_ID else f" (there is no folder {path} here)"
            raise HubUnavailable(f"{error}, or {instead}{here}") from error
    raise FileNotFoundError(
        f"no folder or file {path}; a source is 'synthetic', a path that exists, a hub id "
        "'owner/name', or 'kaggle:owner/name'"
    )


def _read_path(path: Path, seed: int, strict: bool, kwargs: dict[str, Any]) -> DatasetDict:
    """What the first form that accepts a path reads there; ValueError where none does."""
    for form in FORMS:
        if form.accepts(path):
            known = inspect.signature(form.load).parameters
            offered = {"seed": seed, "strict": strict, "progress": sys.stderr.isatty()}
            return form.load(path, **{**{k: v for k, v in offered.items() if k in known}, **kwargs})
    inside = sorted(p.name for p in path.iterdir())[:8] if path.is_dir() else "a single file"
    why = folder.why_not(path)
    raise ValueError(
        f"{path} is in no known form: found {inside or 'an empty folder'}; {why and why + '; '}"
        f"can read {'; '.join(form.name for form in FORMS)}"
    )


def normalise(splits: DatasetDict, where: str = "the data set") -> DatasetDict:
    """The shape that all sources share; ValueError says what `where` has instead.

    Renames splits such as `val`; keeps the columns `image`, `label` and FER+'s `votes`. Every split
    must be present and not empty, with pictures in `image` and the same classes in `label`.
    """
    found = rename_splits(splits)
    missing = [s for s in SPLITS if s not in found]
    if missing:
        raise ValueError(f"{where} has no split {', '.join(missing)}; found {list(splits)}")
    return DatasetDict({s: _checked(found[s], f"{where} ({s})", found["train"]) for s in SPLITS})


def _called(path: Path) -> str:
    """A file or folder by its own name, without the endings of archives and tables."""
    name = path.resolve().name
    return re.sub(r"\.(csv|tar|tar\.gz|tgz|zip)$", "", name) if path.is_file() else name


def _checked(rows: Dataset, where: str, train: Dataset) -> Dataset:
    check_columns(rows, where)
    if len(rows) == 0:
        raise ValueError(f"{where} is empty; every split needs at least one face")
    label = rows.features["label"]
    if not isinstance(rows.features["image"], datasets.Image):
        raise ValueError(f"{where}: column image holds {rows.features['image']}, not pictures")
    if not isinstance(label, ClassLabel) or not label.names:
        raise ValueError(
            f"{where}: column label is {getattr(label, 'dtype', label)} without class "
            "names, so nobody can say what a number means"
        )
    if label.names != train.features["label"].names:
        raise ValueError(
            f"{where} names its classes {label.names}, but train names them "
            f"{train.features['label'].names}"
        )
    for row, k in enumerate(rows["label"][:]):
        if k is None or not 0 <= k < len(label.names):
            raise ValueError(f"{where}, row {row}: label {k} is none of 0..{len(label.names) - 1}")
    keep = [c for c in ("image", "label", "votes") if c in rows.column_names]
    return rows.select_columns(keep)


def _mark(splits: DatasetDict, text: str) -> DatasetDict:
    for rows in splits.values():
        rows.info.description = f"origin: {text}\n{rows.info.description or ''}".strip()
    return splits


def report(splits: DatasetDict) -> list[str]:
    """The reader's report: rows kept, and what was left out and why."""
    return (splits["train"].info.description or "").split("\n")[1:]


def origin(splits: DatasetDict) -> str:
    """Where `load` found these, such as "hub owner/name"; "unknown" if it did not load them."""
    first = (splits["train"].info.description or "").split("\n")[0]
    return first.removeprefix("origin: ") if first.startswith("origin: ") else "unknown"


def slug(splits: DatasetDict) -> str:
    """A short name for file names: "small_expressions", "emotion_detection", "synthetic"."""
    kind, _, rest = origin(splits).partition(" ")
    return short_name(rest if kind in ("folder", "hub", "kaggle") else kind)


def short_name(where: str) -> str:
    """A path, or a hub's or Kaggle's id, as a short name for file names."""
    path = Path(where).expanduser()
    text = _called(path) if path.exists() else re.sub(r"/versions/\d+$", "", where)
    return re.sub(r"[^\w.-]+", "_", text.rsplit("/", 1)[-1]).strip("._-") or "data"


def fingerprint(splits: DatasetDict) -> str:
    """16 hex digits of a SHA-256 over class names, encoded pictures and labels, split by split.

    The same data give the same fingerprint on any machine, from any folder or cache; one changed
    label or byte, or another order, gives another.
    """
    digest = hashlib.sha256("\0".join(splits["train"].features["label"].names).encode())
    for name in splits:
        rows = splits[name].cast_column("image", datasets.Image(decode=False))
        digest.update(f"\0{name} {len(rows)}\0".encode())
        for row in rows:
            data = row["image"]["bytes"]
            data = Path(row["image"]["path"]).read_bytes() if data is None else data
            digest.update(f"{row['label']} {len(data)} ".encode() + data)
    return digest.hexdigest()[:16]


def summary(splits: DatasetDict) -> str:
    """Faces per class and split as a small table, with the share of the most frequent class:
    the accuracy of always answering that class, which any model has to beat."""
    names = splits["train"].features["label"].names
    width = max(8, *(len(n) for n in names))
    lines = [" ".join([f"{'':<10}", *(f"{n:>{width}}" for n in names), f"{'all':>7}  majority"])]
    for split, rows in splits.items():
        labels = rows["label"][:]
        counts = [labels.count(k) for k in range(len(names))]
        top = max(range(len(names)), key=counts.__getitem__)
        lines.append(
            " ".join(
                [
                    f"{split:<10}",
                    *(f"{c:>{width}}" for c in counts),
                    f"{len(labels):>7}",
                    f" {100 * counts[top] / len(labels):.1f} % ({names[top]})",
                ]
            )
        )
    return "\n".join(lines)
