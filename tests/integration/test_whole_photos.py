"""Whole photos: refused before a network learns them or is measured, and their faces cut out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance

import experiments
from expression.checkpoint import default_checkpoint
from expression.face_detector import FaceFinder
from lab import whole_photos
from lab.data import read

pytestmark = pytest.mark.slow
SERVED = str(default_checkpoint().absolute())
TRAIN = ["train", "tinyvgg", "--epochs", "1", "--size", "24", "--device", "cpu"]


@pytest.fixture(scope="module")
def photos(astronaut: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of photos that differ in brightness: a person whose face takes a fifth of the
    side; one more photo of her twice, and one of nobody."""
    folder = tmp_path_factory.mktemp("photos") / "my_photos"
    for split, count in (("train", 4), ("validation", 1), ("test", 1)):
        for label, first in (("happy", 0.6), ("bored", 1.1)):
            place = folder / split / label
            place.mkdir(parents=True)
            for number in range(count):
                bright = ImageEnhance.Brightness(astronaut).enhance(first + number / 20)
                bright.save(place / f"holiday {number}.png")
    twice = Image.new("RGB", (1024, 512))
    twice.paste(astronaut, (0, 0))
    twice.paste(astronaut.resize((300, 300)), (600, 100))
    twice.save(folder / "train" / "happy" / "twice.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "train" / "bored" / "nobody.png")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [TRAIN, ["pack"], ["evaluate", SERVED], ["matrix", SERVED], ["robustness", SERVED]],
    ids=lambda command: command[0],
)
def test_whole_photos_are_refused_with_the_command_that_cuts_them(
    command: list[str], photos: Path, here: Path
) -> None:
    with pytest.raises(SystemExit, match="whole photos: the face takes 2. %") as told:
        experiments.main([*command, "--data", str(photos)])
    assert f"experiments.py crop --data {photos} --to my_photos_faces" in str(told.value)
    assert not any(here.rglob("*.safetensors")) and not any(here.rglob("my_photos.npz"))


def test_whole_photos_of_a_further_data_set_are_refused(
    photos: Path, here: Path, splits: Any
) -> None:
    splits.save_to_disk("drawn")
    with pytest.raises(SystemExit, match="whole photos") as told:
        experiments.main([*TRAIN, "--data", "drawn", "--also", f"own={photos}"])
    assert f"experiments.py crop --data {photos} --to own_faces" in str(told.value)


def test_cut_faces_are_those_that_a_network_is_shown(
    photos: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiments.main(["crop", "--data", str(photos), "--to", "my faces"])
    told = capsys.readouterr().out
    assert "wrote my faces: 9 for train, 2 for validation, 2 for test" in told
    assert "several faces in 1 pictures" in told
    assert "no face found in 1 pictures: bored/" in told and "nobody" in told
    rule = whole_photos.crop_of(None)
    assert rule is not None
    names = sorted(path.relative_to("my faces") for path in Path("my faces").rglob("*.png"))
    assert len(names) == 13 and Path("test/bored/00000-holiday 0.png") in names
    for name in names:
        image = Image.open(Path("my faces") / name)
        (face,) = FaceFinder(smallest=0.3, pixels=0).find_batch([image])[0]
        share = (face.box[2] * face.box[3]) ** 0.5 / image.width
        assert image.width == image.height <= 256 and abs(share - rule.size) < 0.15
    # the largest of two
    twice = next(path for path in Path("my faces").rglob("*twice*"))
    assert Image.open(twice).width > 100
    faces = read("my faces")
    whole_photos.check_pictures(faces, "my faces", rule)
    experiments.main([*TRAIN, "--data", "my faces", "--name", "mine"])
    assert Path("checkpoints/tinyvgg-mine.safetensors").exists()


def test_a_folder_is_whole_or_not_there(
    photos: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces, find = read(str(photos)), FaceFinder.find
    calls = []

    def cut_off(self: FaceFinder, picture: Any) -> Any:
        calls.append(picture)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return find(self, picture)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FaceFinder, "find", cut_off)
        whole_photos.cut_faces(faces, None, here / "mine")
    assert not [*here.glob("*mine*")]
    (here / "mine").mkdir()
    with pytest.raises(ValueError, match="exists; choose another folder"):
        whole_photos.cut_faces(faces, None, here / "mine")


def test_faces_that_are_smaller_than_the_network_learnt_are_told(
    photos: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faces, rule = read(str(photos)), whole_photos.crop_of("expression")
    assert rule is not None
    vars(faces)["crop"] = {**rule.settings(), "size": 0.45}  # head and shoulders
    whole_photos.check_pictures(faces, "mine")
    capsys.readouterr()
    whole_photos.check_pictures(faces, "mine", rule)
    told = capsys.readouterr().out
    assert "Faces take 45 % of the side" in told and "experiments.py crop --data mine" in told


def test_packed_data_have_no_photos_to_cut(photos: Path, here: Path) -> None:
    experiments.main(["crop", "--data", str(photos), "--to", "mine"])
    experiments.main(["pack", "--data", "mine", "--to", "mine.npz"])
    with pytest.raises(SystemExit, match="packed or streamed"):
        experiments.main(["crop", "--data", "mine.npz", "--to", "again"])
