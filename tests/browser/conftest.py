"""What the browser tests of the demo share: pictures, a clip, and servers started as users do."""

import io
import os
import ssl
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
from demo_page import GROUND, SERVED, opened, scene
from PIL import Image, ImageOps

import demo
from benchmarks.harness import free_port
from expression.video import VideoWriter
from lab import datasets

ROOT = Path(demo.__file__).parent


@contextmanager
def running_demo(folder, uploads, *options):
    """(address, log) of a demo of a folder of checkpoints, on this machine alone."""
    port = free_port()
    secure = "--self-signed" in options
    address = f"{'https' if secure else 'http'}://127.0.0.1:{port}"
    log = uploads.parent / "demo-log.txt"
    command = [sys.executable, "demo.py", "--port", str(port), "--checkpoints", str(folder)]
    with log.open("w") as written:
        process = subprocess.Popen(
            [*command, *options], cwd=ROOT, stdout=written, stderr=subprocess.STDOUT,
            env={**os.environ, "GRADIO_TEMP_DIR": str(uploads)},
        )  # fmt: skip
    trusting = ssl._create_unverified_context() if secure else None
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(address, timeout=5, context=trusting).read()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.5)
        else:
            pytest.fail(log.read_text())
        yield address, log
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="session")
def run_demo():
    return running_demo


@pytest.fixture(scope="module")
def served(served_folder, tmp_path_factory):
    """(address, folder of uploads) of a demo started as a user starts it."""
    uploads = tmp_path_factory.mktemp("uploads")
    with running_demo(served_folder, uploads) as (address, _):
        yield address, uploads


@pytest.fixture
def page(browser, served):
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield opened(context, served[0])


@pytest.fixture(scope="module")
def predictor(served_folder, open_predictor):
    return open_predictor(served_folder / f"{SERVED}.safetensors")


@pytest.fixture
def crowd(tmp_path, astronaut):
    """Twelve faces."""
    path, picture = tmp_path / "crowd.png", Image.new("RGB", (640, 480), GROUND)
    face = astronaut.crop((140, 20, 310, 220)).resize((94, 110))
    for k in range(12):
        picture.paste(face, (30 + 150 * (k % 4), 20 + 155 * (k // 4)))
    picture.save(path)
    return path


@pytest.fixture(scope="module")
def clip(astronaut, tmp_path_factory):
    """Three seconds of one face that moves."""
    path, face = tmp_path_factory.mktemp("videos") / "clip.mp4", astronaut.crop((140, 20, 310, 190))
    with VideoWriter(path) as video:
        for k in range(15):
            video.write(scene(face, k - 7), k / 5)
    return path


def two_expressions(predictor, real_small, astronaut):
    """{expression: face}: two that are answered surely, or the astronaut and nobody."""
    if real_small is None:
        faces = [astronaut.crop((140, 20, 310, 190)), None]
    else:
        rows = islice(datasets.load(real_small)["train"], 60)
        faces = (row["image"].convert("RGB") for row in rows)
    sure = {}
    for face in faces:
        # As it is and as in a mirror
        both = [predictor.find(turn(scene(face))) for turn in (Image.Image.copy, ImageOps.mirror)]
        names = {seen[0].expression if seen else "" for seen in both}
        least = min((seen[0].probs[seen[0].expression] for seen in both if seen), default=1)
        if len(names) == 1 and least > 0.7:
            sure.setdefault(names.pop(), face)
        if len(sure) == 2:
            return sure
    pytest.fail(f"of these faces only {list(sure)} are answered surely")


@pytest.fixture(scope="module")
def film(predictor, real_small, astronaut, tmp_path_factory):
    """(file for a camera, its two expressions): three seconds each, 30 frames a second."""
    faces = two_expressions(predictor, real_small, astronaut)
    path = tmp_path_factory.mktemp("films") / "film.mjpeg"
    with path.open("wb") as file:
        for face in faces.values():
            for k in range(30):
                frame = io.BytesIO()
                scene(face, 15 - abs(k - 15)).save(frame, "JPEG", quality=90)
                file.write(3 * frame.getvalue())
    return path, list(faces)
