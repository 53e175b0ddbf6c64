"""Large pictures: opened in bounded memory, or refused before their pixels are touched.

Each is opened by a program of its own, whose largest size the system tells.
"""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from expression import picture_decoding
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
