"""The demo, as people use it: in a browser, by gradio_client, and with things that are no face."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

import demo
from predict import ExpressionPredictor

ROOT = Path(demo.__file__).parent


@pytest.fixture(scope="module")
def served(checkpoint, tmp_path_factory):
    """(address, folder of checkpoints) of a demo started as a user starts it."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copy(checkpoint, folder / "tinyvgg-synthetic.safetensors")
    shutil.copy(checkpoint, folder / "second.safetensors")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (folder / "log.txt").open("w")
    process = subprocess.Popen(
        [sys.executable, "demo.py", "--port", str(port), "--checkpoints", str(folder)],
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, "GRADIO_TEMP_DIR": str(folder / "tmp")},
    )
    address = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(address, timeout=5).read()
            break
        except OSError:
            assert process.poll() is None, (folder / "log.txt").read_text()
            time.sleep(0.5)
    else:
        pytest.fail((folder / "log.txt").read_text())
    yield address, folder
    process.terminate()
    process.wait(20)


@pytest.fixture
def face(tmp_path, splits):
    path = tmp_path / "face.png"
    splits["test"][0]["image"].save(path)
    return path


@pytest.fixture
def page(browser, served):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(served[0])
    page.get_by_role("button", name="Name the expression").wait_for(timeout=60_000)
    yield page
    page.close()


def test_importing_launches_nothing():
    done = subprocess.run(
        [sys.executable, "-c", "import demo"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_predict_gives_every_class_and_agrees_with_predict_py(checkpoint, face):
    probs = demo.predict(str(face), checkpoint.stem, checkpoint.parent)
    assert probs == ExpressionPredictor(checkpoint).predict(face)


def test_no_picture_broken_picture_and_vanished_checkpoint_are_one_sentence(checkpoint, tmp_path):
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    for image, name, reason in (
        (None, checkpoint.stem, "no picture yet"),
        (str(text), checkpoint.stem, "not a picture"),
        (Image.new("L", (9, 9)), "gone", "no checkpoint at"),
    ):
        with pytest.raises(gr.Error) as caught:
            demo.predict(image, name, checkpoint.parent)
        assert reason in caught.value.message and "\n" not in caught.value.message
        assert str(tmp_path) not in caught.value.message, "where uploads lie is nobody's business"


def test_a_new_export_under_the_same_name_counts_at_once(checkpoint, face, tmp_path):
    path = tmp_path / checkpoint.name
    shutil.copy(checkpoint, path)
    before = demo.predict(str(face), path.stem, tmp_path)
    predictor = ExpressionPredictor(path)
    predictor.model.head[2].weight.data.mul_(-3)
    from train_loop import save_checkpoint

    save_checkpoint(path, predictor.model, predictor.card)
    os.utime(path, (0, 0))
    assert demo.predict(str(face), path.stem, tmp_path) != before


def test_about_says_what_trained_it_and_what_it_cannot_tell(checkpoint):
    words = demo.about(checkpoint.stem, checkpoint.parent)
    for part in ("trained on synthetic", "/45", "happy, neutral, sad", "never what somebody feels"):
        assert part in words


def test_without_a_checkpoint_it_says_what_to_do(tmp_path):
    done = subprocess.run(
        [sys.executable, "demo.py", "--checkpoints", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (
        done.returncode == 2 and "make notebook" in done.stderr and "Traceback" not in done.stderr
    )


def test_a_port_that_is_taken_is_one_sentence(served):
    address, folder = served
    done = subprocess.run(
        [sys.executable, "demo.py", "--port", address.rsplit(":", 1)[1], "--checkpoints", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and "cannot be served" in done.stderr
    assert "Traceback" not in done.stderr


def test_browser_upload_shows_the_label_and_all_probabilities(page, served, face, checkpoint):
    page.locator("input[type=file]").first.set_input_files(str(face))
    output = page.get_by_test_id("label-output-value")
    output.wait_for(timeout=60_000)
    probs = ExpressionPredictor(checkpoint).predict(face)
    assert output.inner_text().strip().lower() == next(iter(probs))
    shown = page.locator(".gradio-container").inner_text().lower()
    for name, share in probs.items():
        assert re.search(rf"{name}\s+{round(100 * share)}%", shown), shown


def test_browser_example_is_answered_and_checkpoints_can_be_chosen(page):
    page.locator("button.gallery-item, .gallery-item").first.click()
    page.get_by_test_id("label-output-value").wait_for(timeout=60_000)
    page.get_by_label("Checkpoint").click()
    options = page.get_by_role("option").all_inner_texts()
    assert {o.strip("✓ \n") for o in options} == {"second", "tinyvgg-synthetic"}


def test_browser_says_in_a_sentence_when_there_is_no_picture(page):
    page.get_by_role("button", name="Name the expression").click()
    page.get_by_text("There is no picture yet").wait_for(timeout=30_000)


def test_browser_says_in_a_sentence_when_the_file_is_no_picture(page, tmp_path):
    text = tmp_path / "text.jpg"
    text.write_text("not a picture at all")
    page.locator("input[type=file]").first.set_input_files(str(text))
    page.get_by_text("is not a picture that can be read").wait_for(timeout=30_000)


def test_gradio_client_gets_the_same_answer(served, face, checkpoint):
    from gradio_client import Client, handle_file

    client = Client(served[0], verbose=False)
    answer = client.predict(handle_file(face), "tinyvgg-synthetic", api_name="/predict")
    probs = ExpressionPredictor(checkpoint).predict(face)
    assert answer["label"] == next(iter(probs))
    assert {c["label"]: c["confidence"] for c in answer["confidences"]} == pytest.approx(probs)
