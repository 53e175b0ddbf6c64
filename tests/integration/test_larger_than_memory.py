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
# Two epochs of a loader; prints the most memory of its own (no mapped file) that it took for them
PROGRAM = """
import sys, torch
from pathlib import Path
from hf_collate import Augment
from lab.data import read
from lab.recipes import Recipe
from lab.streaming import read_streamed

def own():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

kind, where = sys.argv[1:]
recipe = Recipe("tinyvgg", size=64, mode="RGB", channels=3, batch_size=64, shuffle_buffer=256)
before, peak, pictures = own(), 0.0, 0
faces = read_streamed(where) if kind == "stream" else read(where)
loader = faces.batches(recipe, 0, torch.device("cpu"))["train"]
for _ in range(2):
    for images, _ in loader:
        pictures += len(images)
        peak = max(peak, own())
print("mark", pictures, peak - before)
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


def measured(kind: str, where: Path, home: Path) -> tuple[int, float]:
    """(pictures that two epochs showed, MB of memory that they took)."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, str(where)], cwd=home, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    _, pictures, megabytes = done.stdout.splitlines()[-1].split()
    return int(pictures), float(megabytes)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_memory_stays_flat(tmp_path: Path) -> None:
    # 80 MB more in files, 49 MB more as decoded pictures; from four files on, four are open
    sizes = {rows: write_parquet(tmp_path / str(rows), rows) for rows in (2000, 6000)}
    took: dict[str, list[float]] = {"stream": [], "shards": []}
    for rows, folder in sizes.items():
        pictures, megabytes = measured("stream", folder, tmp_path)
        assert pictures == 2 * rows
        took["stream"].append(megabytes)
        shards = tmp_path / f"shards-{rows}"
        words = ["pack", "--data", str(folder), "--streaming", "--shards", "--size", "64",
                 "--mode", "RGB", "--to", str(shards), "--device", "cpu"]  # fmt: skip
        experiments.main(words)
        pictures, megabytes = measured("shards", shards, tmp_path)
        assert pictures == 2 * rows
        took["shards"].append(megabytes)
    for kind, (small, large) in took.items():
        assert large - small < 30, f"{kind}: {small:.0f} MB, then {large:.0f} MB"


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
