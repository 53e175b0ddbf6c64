"""The benchmark of data larger than memory measures what it says, on a hundred pictures."""

import sys
from pathlib import Path

import pytest
import torch

from benchmarks import harness, shards
from hf_collate import Batches

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set") / "drawn"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "HELD", 10)
        patch.setattr(shards, "FILE_ROWS", 30)
        return shards.draw_set(folder, 100)


def test_the_set_has_so_many_training_pictures_in_several_files(drawn: Path) -> None:
    assert len(list(drawn.glob("train-*.parquet"))) == 4
    assert {path.name.split("-")[0] for path in drawn.iterdir()} == {"train", "validation", "test"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize("way", shards.WAYS)
def test_each_way_shows_every_picture_in_an_epoch(
    way: str, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the child goes into its own folder, for good
    task = {"way": way, "data": str(drawn), "home": str(tmp_path), "pictures": 100}
    rows = shards.epochs(task, CPU)
    first, second = next(rows), next(rows)
    assert first["rates"] == [] and len(second["rates"]) == 1
    assert second["own_megabytes"] > 10 and second["mapped_megabytes"] > 0
    assert shards.WAYS[way] in shards.table({"rows": [second]})
    rows.close()


def test_an_epoch_with_pictures_left_out_is_no_result(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A way that leaves pictures out would be the fastest
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Batches, "__iter__", lambda self: iter([(torch.zeros(7, 1), None)]))
    task = {"way": "whole", "data": str(drawn), "home": str(tmp_path), "pictures": 100}
    rows = shards.epochs(task, CPU)
    next(rows)
    with pytest.raises(ValueError, match="7 pictures instead of 100"):
        next(rows)


def test_programs_that_share_a_file_write_their_own_key_alone(tmp_path: Path) -> None:
    path = tmp_path / "scale.json"
    harness.write_key(path, "processes", {"rows": [1]})
    harness.write_key(path, "shards", {"rows": [2]})
    harness.write_key(path, "shards", {"rows": [3]})
    assert harness.read_json(path) == {"processes": {"rows": [1]}, "shards": {"rows": [3]}}
