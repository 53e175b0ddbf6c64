"""Pictures with more than 8 bits, and every mode of pillow: never black, never another picture."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from expression.pictures import open_picture
from expression.preprocessing import Preprocess, flatten, to_8_bit, value_range

FACE = np.linspace(0, 240, 30 * 40).reshape(30, 40).astype(np.uint8)  # dark to nearly white


def file_of(image, form):
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def scaled(white, dtype):
    return Image.fromarray((FACE.astype(np.float64) * (white / 255)).astype(dtype))


DEEP = {
    "float to 1": (scaled(1, np.float32), "TIFF"),
    "float to 255": (scaled(255, np.float32), "TIFF"),
    "float from -1 to 1": (Image.fromarray((FACE / 127.5 - 1).astype(np.float32)), "TIFF"),
    "10 bit": (scaled(1023, np.uint16), "PNG"),
    "12 bit": (scaled(4095, np.uint16), "PNG"),
    "14 bit": (scaled(16383, np.uint16), "TIFF"),
    "16 bit": (scaled(65535, np.uint16), "PNG"),
    "16 bit, first byte first": (scaled(65535, ">u2"), "TIFF"),
    "8 bit in 16": (scaled(255, np.uint16), "PNG"),
    "12 bit in 32": (scaled(4095, np.int32), "TIFF"),
    "16 bit gray map": (scaled(65535, np.int32), "PPM"),
}


@pytest.mark.parametrize("name", DEEP)
def test_the_same_picture_in_any_depth_is_the_same_to_the_network(name):
    # A float picture in [0, 1], cut to integers, is black: every answer is that for a black square
    image, form = DEEP[name]
    expected = Preprocess(24, "L").pixels(Image.fromarray(FACE)).astype(int)
    for served in (open_picture(image), open_picture(file_of(image, form))):
        assert np.abs(np.asarray(served).astype(int) - FACE).max() <= 9, name  # -1…1: no full white
    trained = Image.open(io.BytesIO(file_of(image, form)))  # as `datasets` hands it on
    assert np.abs(Preprocess(24, "L").pixels(trained) - expected).max() <= 9


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], (0, 1)),
        ([0.0, 0.5, 1.02], (0, 1.02)),  # ringing of a filter, or more light than white
        ([-0.02, 0.5, 1.0], (0, 1)),
        ([-1.0, 0.0, 1.0], (-1, 1)),
        ([-0.4, 0.0, 0.9], (-1, 1)),
        ([-2.1, 2.6], (-2.1, 2.6)),  # normalised by mean and std
        ([-1024, 3071], (-1024, 3071)),  # signed integers of a scanner
        ([0, 9.5], (0, 9.5)),
        ([0, 200], (0, 255)),
        ([0, 256], (0, 1023)),
        ([0, 3000], (0, 4095)),
        ([0, 60000], (0, 65535)),
        ([0, 1e6], (0, 1e6)),
        ([np.nan, 0.5, np.inf], (0, 1)),
        ([np.nan], (0, 1)),
        ([0, 0], (0, 1)),
        ([], (0, 1)),
    ],
)
def test_white_is_judged_by_the_values_not_by_the_type(values, expected):
    array = np.array(values, np.float64)
    assert value_range([array]) == pytest.approx(expected)
    assert value_range([array[:1], array[1:]]) == pytest.approx(expected)  # strip by strip


def test_a_few_wild_values_do_not_blacken_the_rest():
    pixels = np.array([[np.nan, np.inf, -np.inf, 0.5, 1.0]], np.float32)
    assert to_8_bit(pixels, *value_range([pixels])).tolist() == [[0, 255, 0, 128, 255]]
    assert to_8_bit(np.full((1, 2), -5.0), -5, -5).tolist() == [[0, 0]]


def test_the_widest_range_of_values_is_scaled_without_a_warning():
    # A mutated TIFF of floats: numpy wrote "overflow encountered in subtract" on the screen
    most = np.finfo(np.float32).max
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = to_8_bit(np.array([-most, 0, most], np.float32), -most, most)
    assert made[0] <= made[1] <= made[2]


def test_numpy_arrays_of_16_bits_are_read_as_opencv_gives_them():
    deep = np.zeros((4, 5, 3), np.uint16)
    deep[..., 0] = 4095  # blue comes first, 12 bits
    assert open_picture(deep).getpixel((0, 0)) == (0, 0, 255)
    assert open_picture(deep[..., 0]).getpixel((0, 0)) == 255
    assert open_picture(deep[..., :1]).mode == "L"


MODES = "1 L LA La P PA RGB RGBA RGBa RGBX CMYK YCbCr LAB HSV I F I;16 I;16B I;16L I;16N".split()


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_pillow_is_flattened(mode):
    flat = flatten(Image.new(mode, (6, 5)))
    assert flat.mode in ("L", "RGB") and flat.size == (6, 5)
    assert not flat.has_transparency_data
    opened = open_picture(Image.new(mode, (6, 5)))
    assert opened.tobytes() == flat.tobytes()


def test_colours_survive_modes_that_pillow_does_not_convert():
    red = Image.new("RGB", (3, 2), (200, 30, 90))
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    other = ImageCms.profileToProfile(red, srgb, lab, outputMode="LAB")
    for image in (other, red.convert("HSV"), red.convert("YCbCr"), red.convert("CMYK")):
        assert np.abs(np.subtract(flatten(image).getpixel((0, 0)), (200, 30, 90))).max() <= 4
    for half in ("RGBa", "RGBA"):
        clear = Image.new("RGBA", (3, 2), (200, 30, 90, 0)).convert(half)
        assert flatten(clear).getpixel((0, 0)) == (255, 255, 255)


def test_a_colour_that_counts_as_transparent_is_white():
    # PNG's tRNS: the mode is plain RGB, and the transparency stands beside it
    image = Image.new("RGB", (4, 3), (9, 9, 9))
    image.putpixel((0, 0), (200, 0, 0))
    file = io.BytesIO()
    image.save(file, "PNG", transparency=(9, 9, 9))
    opened = open_picture(file.getvalue())
    assert opened.getpixel((1, 1)) == (255, 255, 255) and opened.getpixel((0, 0)) == (200, 0, 0)


def png16(pixels):
    """A PNG of 16 bits a channel, which pillow cannot write: (H, W, 3 or 4) uint16."""
    height, width, bands = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[bands], 0, 0, 0)
    chunks = (b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("clear", [False, True])
def test_colours_of_12_bits_in_16_are_not_black(bits, clear):
    # Pillow keeps the upper byte alone: of 12 bits, 0 to 15 of 255
    colours = np.stack([FACE, FACE[::-1], FACE[:, ::-1]], axis=2)
    deep = (colours.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)
    if clear:
        deep = np.dstack([deep, np.full(FACE.shape, 2**bits - 1, np.uint16)])
    opened = open_picture(png16(deep))
    assert opened.mode == "RGB" and np.abs(np.asarray(opened, int) - colours).max() <= 1


def test_a_cut_picture_of_16_bits_is_broken_not_black():
    content = png16(np.random.default_rng(0).integers(0, 4096, (40, 30, 3)).astype(np.uint16))
    with pytest.raises(ValueError, match="broken picture"):
        open_picture(content[: len(content) // 2])


def test_a_transparent_colour_of_16_bits_does_not_stop_the_picture():
    content = png16(np.full((4, 5, 3), 40000, np.uint16))
    key = struct.pack(">HHH", 40000, 40000, 40000)
    chunk = struct.pack(">I", 6) + b"tRNS" + key + struct.pack(">I", zlib.crc32(b"tRNS" + key))
    assert open_picture(content[:33] + chunk + content[33:]).size == (5, 4)
