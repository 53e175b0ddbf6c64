"""Batches: the plain way and the fast way agree, and augmentation stays where it belongs."""

import io
import os
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from torch.utils.data import DataLoader

from augment import Augment
from expression.preprocessing import Preprocess
from hf_collate import Batches, Collate, Gray, decode

FEATURES = Features({"image": ImageFeature(), "label": ClassLabel(names=["even", "odd"])})


def dataset(images, labels=None):
    rows = {"image": images, "label": labels or [i % 2 for i in range(len(images))]}
    return Dataset.from_dict(rows, features=FEATURES)


@pytest.fixture
def noise():
    pixels = np.random.default_rng(0).integers(0, 256, (10, 40, 30, 3), dtype=np.uint8)
    return dataset([Image.fromarray(p) for p in pixels])


@pytest.mark.parametrize(
    "rule",
    [
        Preprocess(24),
        Preprocess(24, "L", mean=(0.4,), std=(0.2,)),
        Preprocess(24, "L", channels=3),
        Preprocess(48, resize="crop", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    ],
)
def test_fast_and_plain_batches_are_the_same_tensors(noise, rule, tmp_path):
    # A fast path that resizes or rounds otherwise trains on other pictures than it serves
    plain = list(DataLoader(noise, batch_size=4, collate_fn=Collate(rule)))
    fast = list(Batches(decode(noise, rule, tmp_path), 4))
    assert len(plain) == len(fast) == len(Batches(decode(noise, rule, tmp_path), 4)) == 3
    for (a, b), (c, d) in zip(plain, fast, strict=True):
        assert torch.equal(a, c) and torch.equal(b, d)
        assert a.dtype == torch.float32 and a.shape[1:] == (rule.channels, rule.size, rule.size)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
@pytest.mark.parametrize("target", ["L", "RGB"])
def test_every_pil_mode_becomes_a_tensor(mode, target):
    ramp = Image.fromarray(np.linspace(0, 255, 64, dtype=np.uint8).reshape(8, 8))
    image = (
        Image.fromarray(np.asarray(ramp).astype(np.uint16) * 257)
        if mode == "I;16"
        else ramp.convert(mode)
    )
    x = Collate(Preprocess(8, target))([{"image": image, "label": 0}])[0]
    assert x.shape == (1, 1 if target == "L" else 3, 8, 8)
    assert x[0, 0, 0, 0] < x[0, 0, -1, -1], f"{mode}: dark is no longer dark"
    if mode not in ("1", "P", "CMYK"):
        assert np.allclose(x, Preprocess(8, target)(ramp)[None], atol=0.02)


def test_transparent_pixels_become_white_not_black():
    x = Preprocess(4, "L", mean=(0.0,), std=(1.0,))(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))
    assert (x == 1).all()


def test_a_rotated_phone_photo_is_upright():
    picture = Image.new("L", (8, 8))
    picture.paste(255, (0, 0, 8, 4))  # bright on top
    exif, file = Image.Exif(), io.BytesIO()
    exif[274] = 3  # stored upside down
    picture.rotate(180).save(file, "PNG", exif=exif)
    x = Preprocess(8, "L")(Image.open(file))
    assert x[0, 0].mean() > x[0, -1].mean()


def test_missing_column_lists_the_columns_there_are(noise, tmp_path):
    with pytest.raises(KeyError, match=r"no column \['pic'\]; found \['image', 'label'\]"):
        Collate(Preprocess(8), image_key="pic")([noise[0]])
    with pytest.raises(KeyError, match="no column"):
        decode(noise, Preprocess(8), tmp_path, label_key="emotion")


def test_other_column_names_are_an_argument(noise, tmp_path):
    renamed = noise.rename_columns({"image": "face", "label": "emotion"})
    images, labels = Collate(Preprocess(8), "face", "emotion")([renamed[i] for i in range(3)])
    assert images.shape == (3, 3, 8, 8) and labels.tolist() == [0, 1, 0]
    assert (
        len(decode(renamed, Preprocess(8), tmp_path, image_key="face", label_key="emotion")) == 10
    )


def test_integer_labels_without_names_are_named_by_their_numbers(noise, tmp_path):
    plain = noise.cast_column("label", Value("int64"))
    decoded = decode(plain, Preprocess(8), tmp_path)
    assert decoded.class_names == ("0", "1") and decoded.labels.tolist() == noise["label"][:]
    below = Dataset.from_dict(
        {"image": noise["image"][:2], "label": [0, -1]},
        features=Features({"image": ImageFeature(), "label": Value("int64")}),
    )
    with pytest.raises(ValueError, match="row 1.*-1"):
        decode(below, Preprocess(8), tmp_path)


def test_labels_that_are_no_whole_numbers_are_refused(noise, tmp_path):
    # [0.4, 1.6] became [0, 1] without a word
    features = Features({"image": ImageFeature(), "label": Value("float32")})
    for labels, row in (([0.0, 1.6], 1), ([float("nan"), 1.0], 0)):
        rows = Dataset.from_dict({"image": noise["image"][:2], "label": labels}, features=features)
        with pytest.raises(ValueError, match=f"row {row}: label"):
            decode(rows, Preprocess(8), tmp_path)
    whole = Dataset.from_dict({"image": noise["image"][:2], "label": [0, 1.0]}, features=features)
    assert decode(whole, Preprocess(8), tmp_path).labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    "change", [lambda x: x[:, :-1], lambda x: x[0], lambda x: x.astype(np.float32)]
)
def test_pixels_of_another_shape_do_not_shift_into_the_next_row(change, tmp_path):
    # Row 1's missing bytes were taken from row 2, and so on to the end of the split
    class Uneven(Gray):
        def pixels(self, image):
            pixels = super().pixels(image)
            return change(pixels) if image.size == (30, 20) else pixels

    rows = dataset([Image.new("L", size) for size in ((20, 20), (30, 20), (20, 20))])
    with pytest.raises(ValueError, match="row 1: the transform"):
        decode(rows, Uneven(8), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_split_without_rows_is_refused(noise, tmp_path):
    # Mapping a file of no bytes fails with a message about mmap
    with pytest.raises(ValueError, match="no rows"):
        decode(noise.select([]), Preprocess(8), tmp_path)


def test_collate_travels_to_spawned_workers():
    assert pickle.loads(pickle.dumps(Collate(Preprocess(8)))) == Collate(Preprocess(8))


def test_a_picture_that_does_not_open_is_named_and_leaves_no_cache(noise, tmp_path):
    rows = noise.cast_column("image", ImageFeature(decode=False))[:]
    rows["image"][3] = {"bytes": b"not a picture", "path": None}
    broken = Dataset.from_dict(rows, features=FEATURES)
    with pytest.raises(ValueError, match="row 3: the picture does not open"):
        decode(broken, Preprocess(8), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_changed_data_or_settings_never_meet_an_old_cache(noise, tmp_path):
    decode(noise, Preprocess(8), tmp_path)
    decode(noise, Preprocess(8), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    flipped = dataset(noise["image"][::-1])
    first = decode(flipped, Preprocess(8), tmp_path).pixels[0]
    assert torch.equal(first, decode(noise, Preprocess(8), tmp_path).pixels[9])
    decode(noise, Preprocess(9), tmp_path)
    decode(noise, Preprocess(8, resize="crop"), tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_cut_off_cache_is_written_anew(noise, tmp_path):
    pixels = decode(noise, Preprocess(8), tmp_path).pixels.clone()
    file = next(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(decode(noise, Preprocess(8), tmp_path).pixels, pixels)


def test_a_cache_with_wrong_bytes_is_decoded_anew(noise, tmp_path):
    # Of the right size: one wrong byte would be trained on for ever
    pixels = decode(noise, Preprocess(8), tmp_path).pixels.clone()
    file = next(tmp_path.iterdir())
    whole = file.read_bytes()
    for place in (0, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.warns(UserWarning, match=file.name):
            assert torch.equal(decode(noise, Preprocess(8), tmp_path).pixels, pixels)
        assert file.read_bytes() == whole


def test_a_whole_cache_under_another_name_is_not_taken(noise, tmp_path):
    decode(noise, Preprocess(8), tmp_path)
    file = next(tmp_path.iterdir())
    flipped = dataset(noise["image"][::-1])
    right = decode(flipped, Preprocess(8), tmp_path / "right")
    other = next((tmp_path / "right").iterdir()).name
    file.rename(tmp_path / other)
    with pytest.warns(UserWarning, match=other):
        assert torch.equal(decode(flipped, Preprocess(8), tmp_path).pixels, right.pixels)


def test_what_killed_runs_left_is_swept(noise, tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    hour_ago, stem = time.time() - 3600, "0" * 20
    names = {
        f"{stem}.{ended.pid}.tmp": hour_ago,  # the one to go
        f"{'1' * 20}.{ended.pid}.tmp": time.time(),  # perhaps of another machine, and at work
        f"{stem}.{os.getppid()}.tmp": hour_ago,  # its process lives
        f"notes.{ended.pid}.tmp": hour_ago,  # not ours
    }
    for name, when in names.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (when, when))
    decode(noise, Preprocess(8), tmp_path)
    left = {path.name for path in tmp_path.glob("*.tmp")}
    if os.name == "nt":  # where it is told by whether the file is open
        left.add(f"{stem}.{os.getppid()}.tmp")
    assert left == set(list(names)[1:])


def test_shuffling_is_complete_and_depends_on_seed_and_epoch_alone(noise, tmp_path):
    data = decode(noise, Preprocess(8), tmp_path)

    def order(batches):
        return torch.cat([x for x, _ in batches])

    batches = Batches(data, 3, shuffle=True, seed=1)
    first, second = order(batches), order(batches)
    assert not torch.equal(first, second)
    assert torch.equal(second, order(Batches(data, 3, shuffle=True, seed=1, epoch=1)))
    assert torch.equal(
        first.flatten(1).sum(1).sort().values, order(Batches(data)).flatten(1).sum(1).sort().values
    )


def test_validation_batches_are_never_augmented(noise, tmp_path):
    data = decode(noise, Preprocess(8), tmp_path)
    before = torch.cat([x for x, _ in Batches(data)])
    list(Batches(data, shuffle=True, augment=Augment()))
    assert torch.equal(before, torch.cat([x for x, _ in Batches(data)]))


def test_only_the_rows_asked_for(noise, tmp_path):
    data = decode(noise, Preprocess(8), tmp_path)
    images, labels = next(iter(Batches(data, indices=[7, 2])))
    assert labels.tolist() == [1, 0]
    assert torch.equal(images[0], list(Batches(data, 1))[7][0][0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 8, "mode": "HSV"}, "mode is 'HSV'"),
        ({"size": 8, "resize": "fit"}, "resize is 'fit'"),
        ({"size": 8, "mode": "L", "channels": 2}, "2 channels"),
        ({"size": 8, "mean": (0.1, 0.2)}, "mean has 2"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Preprocess(**settings)


def test_settings_survive_the_card():
    rule = Preprocess(8, "L", 3, (0.1, 0.2, 0.3), (1.0,), "crop")
    assert Preprocess(**rule.settings()) == rule
