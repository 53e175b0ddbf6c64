"""The table of labels: one row a face, and one for each picture without a face or that is broken.

Columns are those of `--csv` (`expression.tables`), with `label`, `error`, the model's SHA-256 and a
`key` of 16 bytes, by which a later run knows what is done.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from expression.bulk.keys import KEY_BYTES, key_of
from expression.face_prediction import FacePrediction
from expression.files import shown

__all__ = ["ABOUT", "SCHEMA_VERSION", "empty_row", "face_rows", "schema_of", "table_of"]

SCHEMA_VERSION = 1  # of the columns and of the manifest
ABOUT = [
    ("source", pa.string()), ("seconds", pa.float64()), ("track", pa.int32()),
    ("face", pa.int32()), ("x", pa.int32()), ("y", pa.int32()), ("width", pa.int32()),
    ("height", pa.int32()), ("score", pa.float32()), ("expression", pa.string()),
    ("sure", pa.bool_()), ("label", pa.string()), ("error", pa.string()),
    ("model_sha256", pa.string()), ("key", pa.binary(KEY_BYTES)),
]  # fmt: skip


def schema_of(class_names: Sequence[str]) -> pa.Schema:
    """ABOUT, then the probability of each class. Raises ValueError for a class of such a name."""
    if taken := {name for name, _ in ABOUT} & set(class_names):
        raise ValueError(f"the checkpoint has a class {min(taken)!r}, the name of another column")
    return pa.schema([*ABOUT, *((name, pa.float32()) for name in class_names)])


def table_of(rows: Sequence[Sequence[Any]], class_names: Sequence[str]) -> pa.Table:
    """Rows of `face_rows` and `empty_row` as a table."""
    schema = schema_of(class_names)
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    arrays = [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def text_of(name: str) -> str:
    """The name itself where UTF-8 can hold it; otherwise as it is shown."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return shown(name)
    return name


def face_rows(
    name: str,
    faces: Sequence[FacePrediction],
    class_names: Sequence[str],
    model: str,
    seconds: float | None = None,
) -> list[list[Any]]:
    """The rows of a picture, or of one frame of a film; of a picture without a face its one row."""
    if not faces:
        return [empty_row(name, class_names, model)]
    source, key = text_of(name), key_of(name)
    return [
        [
            source, seconds, face.track, number, *face.box, face.score, face.expression,
            face.sure, face.label, None, model, key, *(face.probs[n] for n in class_names),
        ]
        for number, face in enumerate(faces, 1)
    ]  # fmt: skip


def empty_row(name: str, class_names: Sequence[str], model: str, error: str = "") -> list[Any]:
    """The row of a picture without a face, or the reason why it has no answer; `face` is 0."""
    about = {"source": text_of(name), "face": 0, "model_sha256": model, "key": key_of(name)}
    about["error"] = shown(" ".join(error.split())) if error else None
    return [about.get(column) for column, _ in ABOUT] + [None] * len(class_names)
