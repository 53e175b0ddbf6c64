"""Decoders say nothing beside our one sentence, also past Python and from several threads."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import io
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from PIL import Image
from expression.pictures import open_picture

rng = np.random.default_rng(0)
image = Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
broken = []
for compression in ("tiff_lzw", "tiff_deflate", "jpeg", "group4"):
    file = io.BytesIO()
    whole = image.convert("1") if compression == "group4" else image
    whole.save(file, "TIFF", compression=compression)
    for _ in range(20):
        data = bytearray(file.getvalue())
        for place in rng.integers(8, len(data), 6):
            data[place] = rng.integers(0, 256)
        broken.append(bytes(data))

def refused(data):
    try:
        open_picture(data)
    except ValueError:
        return True

with ThreadPoolExecutor(4) as pool:
    print(sum(map(bool, pool.map(refused, broken))))
"""


def test_broken_pictures_write_nothing_to_the_terminal():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert int(done.stdout) > 20  # so many were refused, each with a sentence of ours
    assert done.stderr == ""


@pytest.mark.parametrize("handled", [False, True])
def test_pillows_log_reaches_a_programs_log_alone(handled):
    program = (
        "import logging\n"
        "from expression.quiet_decoders import quiet_pillow\n"
        f"{'logging.basicConfig()' if handled else ''}\n"
        "quiet_pillow()\n"
        "logging.getLogger('PIL.TiffImagePlugin').error('more samples than can be decoded')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and ("samples" in done.stderr) == handled
