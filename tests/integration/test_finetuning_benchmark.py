"""What a folder of one's own buys: folders drawn from a data set, and what they gave."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import DatasetDict
from PIL import Image

from benchmarks import finetuning, subjects, training_report
from lab.data import Faces
from lab.datasets.splits import build_split

pytestmark = pytest.mark.slow
NAMES = ["angry", "disgust", "happy", "neutral"]


@pytest.fixture(scope="module")
def study() -> finetuning.Study:
    """40 drawn pictures a class and split, each of which differs from all others."""
    splits = {}
    for number, split in enumerate(("train", "validation", "test")):
        rng = np.random.default_rng(number)
        labels = [index % 4 for index in range(160)]
        pictures = [rng.integers(0, 99, (48, 48), dtype=np.uint8) for _ in labels]
        for picture, label in zip(pictures, labels, strict=True):
            picture[12 * label : 12 * label + 12] += 120
        images = [{"path": None, "bytes": png(picture)} for picture in pictures]
        splits[split] = build_split(images, labels, NAMES)
    faces = finetuning.without(Faces(DatasetDict(splits), "bands", "0" * 16), ("disgust", "fear"))
    recipe = replace(subjects.RECIPES["finetune"], init_from=finetuning.START)
    settled = subjects.settled("finetune", recipe, "bands")
    return finetuning.Study(faces, replace(settled, precision="float32"), torch.device("cpu"))


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


def pictures_of(rows: Any) -> set[bytes]:
    return {np.asarray(row["image"]).tobytes() for row in rows}


def test_a_folder_has_few_faces_of_each_class_and_none_twice(study: finetuning.Study) -> None:
    folder = study.folder(20, 0, known=True)
    assert folder.class_names == ["angry", "happy", "neutral"]
    counts = {s: np.bincount(folder.labels(s)).tolist() for s in folder.splits}
    assert counts == {"train": [18] * 3, "validation": [2] * 3, "test": [40] * 3}
    train, validation = (pictures_of(folder.splits[s]) for s in ("train", "validation"))
    assert len(train) == 54 and not train & validation
    assert pictures_of(folder.splits["test"]) == pictures_of(study.faces.splits["validation"])
    assert train != pictures_of(study.folder(20, 1, known=True).splits["train"])
    own = study.folder(20, 0, known=False)
    assert own.class_names == ["own angry", "own happy", "own neutral"]
    assert own.labels("train").equal(folder.labels("train"))


@pytest.mark.parametrize("way", ["known", "new"])
def test_a_run_learns_the_folder(study: finetuning.Study, way: str) -> None:
    told = study.run(10, 0, way)
    assert told["faces"] == 27 and told["way"] == way
    assert told["accuracy"] == pytest.approx(told["recall"]) and told["recall"] > 0.7  # chance: 1/3


def test_the_table_has_the_start_and_the_means_of_each_size() -> None:
    runs = [{"way": "known", "per_class": 10, "seed": s, "faces": 27, "accuracy": 0.5 + s / 10,
             "recall": 0.4} for s in (0, 1)]  # fmt: skip
    told = {"settings": {"per_class": [10, 30]}, "runs": runs,
            "start": {"accuracy": 0.3, "recall": 0.25}}  # fmt: skip
    start, known = ([cell.strip() for cell in line.strip("|").split("|")]
                    for line in finetuning.table(told).splitlines()[2:])  # fmt: skip
    assert start == ["the network as it is", "–", "–", "30.0", "25.0"]
    assert known[1:] == ["10", "27", "55.0 ± 7.1", "40.0 ± 0.0"]
    told |= {"machine": {"device": "x", "threads": 1}, "versions": {"torch": "2"}, "date": "today"}
    told["settings"] |= {"recipe": {"epochs": 20, "lr": 0.005}, "start": finetuning.START,
                         "data": "muxspace", "judged_on": 20, "left_out": ["fear"]}  # fmt: skip
    assert finetuning.table(told) in training_report.finetuning_section(told)
