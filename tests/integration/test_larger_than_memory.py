"""Data larger than memory, as commands: memory stays flat, and figures stay what they are."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Features, Image
from PIL import Image as Pil

import experiments
from expression.checkpoint import load_checkpoint

ROOT = Path(experiments.__file__).parent
ROW = 20_000  # bytes of a picture's file, most of them behind its end, where no decoder looks
# Two epochs of a stream, then of its shards; prints how many pictures each has shown, and the most
# memory of its own (no mapped file) that it took
PROGRAM = """
import sys, torch
from pathlib import Path
from lab.data import preprocess
from lab.recipe import Recipe
from lab.shard_writer import write_shards
from lab.shards import read_shards
from lab.streaming import read_streamed

def own():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

def show(faces):
    pictures, peak = 0, 0.0
    for _ in range(2):
        for images, _ in (loader := faces.batches(recipe, 0, torch.device("cpu"))["train"]):
            pictures += len(images)
            peak = max(peak, own())
    return pictures, peak - before

where, shards = sys.argv[1:]
recipe = Recipe("tinyvgg", size=64, mode="RGB", channels=3, batch_size=64, shuffle_buffer=256)
before = own()
found = show(faces := read_streamed(where))
write_shards(faces, Path(shards), preprocess(recipe), 4 << 20)
del faces
print("mark", *found, *show(read_shards(shards)))
"""


def write_parquet(folder: Path, rows: int) -> Path:
    """Files of 500 rows, 10 MB each, in row groups of 50; the other two splits have ten rows."""
    file = io.BytesIO()
    Pil.new("RGB", (64, 64), "gray").save(file, "PNG")
    features = Features(image=Image(), label=ClassLabel(names=["happy", "sad"]))
    folder.mkdir()
    names = {f"train-{k:05d}.parquet": 500 for k in range(rows // 500)}
    for name, count in {**names, "validation.parquet": 10, "test.parquet": 10}.items():
        images = [
            {"bytes": file.getvalue() + os.urandom(ROW - file.tell()), "path": None}
            for _ in range(count)
        ]
        table = pa.table({"image": images, "label": [k % 2 for k in range(count)]})
        pq.write_table(table.cast(features.arrow_schema), folder / name, row_group_size=50)
    return folder


def measured(where: Path, home: Path) -> dict[str, tuple[int, float]]:
    """{way: (pictures that two epochs showed, MB of memory that they took)}."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(where), f"{where}-shards"], cwd=home, text=True,
        capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    words = done.stdout.splitlines()[-1].split()
    return {"stream": (int(words[1]), float(words[2])), "shards": (int(words[3]), float(words[4]))}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_memory_stays_flat(tmp_path: Path) -> None:
    # 60 MB more in files, 37 MB more as decoded pictures; from four files on, four are open. What
    # Python's allocator keeps differs by 20 MB from run to run, so a pair may be measured again.
    grown: dict[str, list[float]] = {"stream": [], "shards": []}
    for attempt in range(3):
        told = {rows: measured(write_parquet(tmp_path / f"{attempt}-{rows}", rows), tmp_path)
                for rows in (2000, 5000)}  # fmt: skip
        for way, growths in grown.items():
            assert [told[rows][way][0] for rows in told] == [2 * rows for rows in told], way
            growths.append(told[5000][way][1] - told[2000][way][1])
        if all(min(growths) < 25 for growths in grown.values()):
            return
    pytest.fail(f"MB more of three times: {grown}")


@pytest.fixture(scope="module")
def drawn(splits: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parquet") / "drawn"
    folder.mkdir()
    for split, rows in splits.items():
        for k in range(3):
            rows.shard(3, k).to_parquet(str(folder / f"{split}-{k:05d}-of-00003.parquet"))
    return folder


def test_shards_of_a_stream_train_as_the_set_itself(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stream to shards to training: bit for bit the network of the set that is read whole
    monkeypatch.chdir(tmp_path)
    words = ["train", "tinyvgg", "--size", "24", "--epochs", "1", "--class-weights",
             "--device", "cpu", "--precision", "float32"]  # fmt: skip
    pack = ["pack", "--data", str(drawn), "--streaming", "--shards", "--size", "24"]
    experiments.main([*pack, "--device", "cpu", "--to", "shards"])
    found = []
    for where in (str(drawn), "shards"):
        out = tmp_path / Path(where).name / "out"
        experiments.main([*words, "--data", where, "--out", str(out)])
        found.append(load_checkpoint(out / "checkpoints" / "tinyvgg-drawn.safetensors"))
        (told,) = (out / "results").rglob("drawn-validation-plain.json")
        found[-1][1]["result"] = json.loads(told.read_text())["confusion"]
    (first, one), (second, two) = found
    assert all((first[name] == second[name]).all() for name in first)
    for name in ("data", "validation", "crop", "priors", "class_names", "result"):
        assert one[name] == two[name], name
