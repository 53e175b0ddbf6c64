"""Large pictures: opened in bounded memory, or refused before their pixels are touched.

Each is opened by a program of its own, whose largest size the system tells.
"""

import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from expression import picture_decoding
from expression.memory import HeldPictures, Share
from expression.pictures import open_picture

ROOT = Path(__file__).resolve().parents[2]
MOST = 700  # megabytes, with Python, numpy and pillow

OPEN = """
import sys
from expression.pictures import open_picture
image = open_picture(sys.argv[1])
(peak,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(*image.size, image.info["reduced"], int(peak) // 1024)
"""
ANSWER = """
import sys
from expression.memory import give_back_large_blocks
from expression.picture_batches import answer_pictures
from expression.predictor import ExpressionPredictor
give_back_large_blocks()  # as the command line does
count = sum(1 for answer in answer_pictures(ExpressionPredictor(), sys.argv[1:]) if answer.image)
(peak,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(count, int(peak) // 1024)
"""
WRITE = """
import sys
from PIL import Image
exif = Image.Exif()
exif[274] = 6
progressive = sys.argv[2] == "progressive"
Image.new("RGB", (12000, 9000), "teal").save(sys.argv[1], exif=exif, progressive=progressive)
"""


def run(program, *arguments):
    done = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], cwd=ROOT,
                          capture_output=True, text=True, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [int(word) for word in done.stdout.split()]


def write_png(path, width, height, kind, bands, depth=8):
    """A PNG of zeros, without ever holding its pixels."""
    packer, row = zlib.compressobj(1), bytes(1 + width * bands * depth // 8)
    data = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, content in ((b"IHDR", head), (b"IDAT", data), (b"IEND", b"")):
            crc = struct.pack(">I", zlib.crc32(name + content))
            file.write(struct.pack(">I", len(content)) + name + content + crc)


linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells")


@linux
@pytest.mark.parametrize("kind", ["baseline", "progressive"])
def test_a_phones_108_megapixels_open(kind, tmp_path):
    # Decoded whole, turned and copied, it takes 1.3 GB
    run(WRITE, tmp_path / "phone.jpg", kind)
    width, height, reduced, peak = run(OPEN, tmp_path / "phone.jpg")
    assert (width, height, reduced) == (4500, 6000, 2)  # upright
    assert peak < MOST


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "bands", "depth"), [(2, 3, 8), (6, 4, 8), (0, 1, 16)], ids=["RGB", "RGBA", "16 bit"]
)
def test_a_hundred_megapixels_of_another_form_open(kind, bands, depth, tmp_path):
    write_png(tmp_path / "large.png", 10_000, 10_000, kind, bands, depth)
    width, height, reduced, peak = run(OPEN, tmp_path / "large.png")
    assert (width, height, reduced) == (5000, 5000, 2) and peak < MOST


@linux
@pytest.mark.slow
def test_a_folder_of_large_pictures_takes_no_more_than_one(tmp_path):
    # 24 of them, 9 MB as files, took 9.7 GB: each thread opened one, and dozens were kept
    write_png(tmp_path / "00.png", 10_000, 10_000, 2, 3)
    for number in range(1, 10):
        (tmp_path / f"{number:02}.png").hardlink_to(tmp_path / "00.png")
    write_png(tmp_path / "rgba.png", 10_000, 10_000, 6, 4)
    names = map(str, sorted(tmp_path.glob("*.png")))
    pictures, peak = run(ANSWER, *names)
    assert pictures == 11 and peak < MOST


def test_large_shares_wait_and_are_not_overtaken():
    share, order = Share(10), []
    first = share.take(6)
    first.__enter__()

    def work(name, count):
        with share.take(count):
            order.append(name)

    threads = [Thread(target=work, args=asked) for asked in (("large", 9), ("small", 3))]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    assert not order  # the small one would fit, and keep the large one waiting
    first.__exit__(None, None, None)
    for thread in threads:
        thread.join(5)
    assert order == ["large", "small"] and share.taken == 0
    with share.take(1000):  # more than all: alone
        assert share.taken == 10


def test_the_group_whose_turn_it_is_never_waits():
    # It would wait for pictures that are kept until it has been answered
    held, order = HeldPictures(10), []
    held.expect(10, group=0)

    def open_next():
        held.expect(10, group=1)
        order.append("opened")

    thread = Thread(target=open_next)
    thread.start()
    held.expect(100, group=0)
    time.sleep(0.05)
    assert not order
    held.turn(1)
    thread.join(5)
    assert order == ["opened"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_every_form_is_made_smaller_where_that_is_allowed(kind, tmp_path):
    Image.new("RGB", (4100, 300)).save(tmp_path / "wide", kind)
    assert open_picture(tmp_path / "wide", longest=2048).info["reduced"] == 2
    assert open_picture(tmp_path / "wide", longest=2051).info["reduced"] == 1
    assert open_picture(tmp_path / "wide").info["reduced"] == 1


@pytest.mark.parametrize("form", ["WEBP", "JPEG2000", "AVIF"])
def test_what_a_decoder_holds_beside_the_picture_counts(form, tmp_path, monkeypatch):
    # A WebP of 100 megapixels takes 1.6 GB: its decoder holds three more pictures
    path, size, pixels = tmp_path / "picture", (100, 80), 100 * 80
    Image.new("RGB", size).save(path, form)
    monkeypatch.setattr(picture_decoding, "MAX_BYTES", 4 * pixels)
    with pytest.raises(ValueError, match="to decode; at most"):
        open_picture(path)
    monkeypatch.setattr(picture_decoding, "MAX_BYTES", 18 * pixels)
    assert open_picture(path).size == size


def test_a_jpeg_of_several_scans_holds_all_coefficients(tmp_path, monkeypatch):
    # libjpeg keeps them whatever size is decoded: a progressive one cannot be made cheap
    image, pixels = Image.effect_noise((800, 600), 50).convert("RGB"), 800 * 600
    for name, options in (("plain", {}), ("progressive", {"progressive": True})):
        image.save(tmp_path / name, "JPEG", subsampling=0, **options)
    monkeypatch.setattr(picture_decoding, "MAX_BYTES", 2 * pixels)
    monkeypatch.setattr(picture_decoding, "KEPT", pixels // 4)
    assert open_picture(tmp_path / "plain").size == (400, 300)
    with pytest.raises(ValueError, match="to decode; at most"):
        open_picture(tmp_path / "progressive")
    monkeypatch.setattr(picture_decoding, "MAX_BYTES", 6.1 * pixels)  # enough at an eighth
    assert open_picture(tmp_path / "progressive").info["reduced"] == 8


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P", "I;16", "F", "CMYK", "LAB"])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_strips_give_the_whole_picture(mode, factor, monkeypatch):
    # Seams, or a range judged strip by strip, would draw lines through faces
    ramp = Image.fromarray(np.linspace(0, 255, 101 * 67).reshape(101, 67).astype(np.uint8))
    deep = np.asarray(ramp).astype(np.float32)
    image = {
        "I;16": lambda: Image.fromarray((deep * 16).astype(np.uint16)),
        "F": lambda: Image.fromarray(deep / 255),
        "LAB": lambda: Image.merge("LAB", [ramp, ramp, ramp]),
        "P": lambda: ramp.convert("RGB").quantize(16),
    }.get(mode, lambda: ramp.convert(mode))()
    whole = picture_decoding.flattened(image, factor)
    monkeypatch.setattr(picture_decoding, "STRIP", 67 * 8)
    strips = picture_decoding.flattened(image, factor)
    assert strips.size == whole.size == (-(-67 // factor), -(-101 // factor))
    assert strips.mode == whole.mode and strips.tobytes() == whole.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_that_is_made_smaller_is_turned_like_another(orientation, tmp_path, monkeypatch):
    image = Image.new("RGB", (64, 48), "white")
    image.paste("black", (0, 0, 32, 16))
    exif = Image.Exif()
    exif[274] = orientation
    for form in ("PNG", "TIFF", "WEBP"):
        image.save(tmp_path / form, form, exif=exif)
    usual = {form: open_picture(tmp_path / form) for form in ("PNG", "TIFF", "WEBP")}
    monkeypatch.setattr(picture_decoding, "KEPT", 64 * 48 // 4)
    for form, large in usual.items():
        small = open_picture(tmp_path / form)
        assert small.info == {"reduced": 2} and large.info == {"reduced": 1}
        expected = np.asarray(large.reduce(2), int)
        assert np.abs(np.asarray(small, int) - expected).max() < 30, (form, orientation)


def test_a_thin_picture_of_many_megapixels_has_pixels_left(monkeypatch):
    monkeypatch.setattr(picture_decoding, "KEPT", 1000)
    assert open_picture(Image.new("L", (5000, 1))).size == (1250, 1)
