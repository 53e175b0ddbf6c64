"""The demo, as people use it: a browser with a camera, gradio_client, plain HTTP.

The face is the astronaut's of scikit-image, which lies inside that package: no download.
"""

import csv
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from itertools import islice
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageOps

import demo
from expression.drawing import EMOJI
from expression.face_prediction import FacePrediction
from expression.timeline import COLUMNS
from expression.video import VideoWriter
from lab import datasets

pytestmark = pytest.mark.slow
ROOT = Path(demo.__file__).parent
SERVED = "expression-fer2013"  # real faces come first, so it is chosen unasked
GROUND = (90, 110, 100)
PHONE = {"width": 390, "height": 844}
MAPS = ".grid-container img"
# [title, emoji, [[class, share], …]] of every card
CARDS = """() => [...document.querySelectorAll('.face')].map(card => [
    card.querySelector('h4').innerText, card.querySelector('.look span').innerText,
    [...card.querySelectorAll('.bar')].map(bar =>
        [bar.children[0].innerText, bar.querySelector('.share').innerText])])"""
# Every answer of the mirror: [milliseconds, expression]
WATCH = """() => { window.answers = []; let last = '';
    new MutationObserver(() => {
        const mirror = document.querySelector('.mirror');
        if (!mirror || mirror.outerHTML === last) return;
        last = mirror.outerHTML;
        window.answers.push([performance.now(), mirror.dataset.expression]);
    }).observe(document.body, {subtree: true, childList: true, characterData: true}); }"""


# --- pictures, videos, a server ---


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


def scene(face, shift=0):
    """A face, or nobody, before a camera: 320 × 240."""
    picture = Image.new("RGB", (320, 240), GROUND)
    if face is not None:
        picture.paste(face.resize((170, 170)), (75 + shift, 35 + shift // 2))
    return picture


@pytest.fixture(scope="module")
def clip(astronaut, tmp_path_factory):
    """Three seconds of one face that moves."""
    path, face = tmp_path_factory.mktemp("videos") / "clip.mp4", astronaut.crop((140, 20, 310, 190))
    with VideoWriter(path) as video:
        for k in range(15):
            video.write(scene(face, k - 7), k / 5)
    return path


@pytest.fixture(scope="module")
def served(served_folder, tmp_path_factory):
    """(address, folder of uploads) of a demo started as a user starts it."""
    uploads = tmp_path_factory.mktemp("uploads")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{(port := probe.getsockname()[1])}"
    log = uploads.parent / "demo-log.txt"
    with log.open("w") as written:
        process = subprocess.Popen(
            [sys.executable, "demo.py", "--port", str(port), "--checkpoints", str(served_folder)],
            cwd=ROOT, stdout=written, stderr=subprocess.STDOUT,
            env={**os.environ, "GRADIO_TEMP_DIR": str(uploads)},
        )  # fmt: skip
    for _ in range(240):
        try:
            urllib.request.urlopen(address, timeout=5).read()
            break
        except OSError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.5)
    else:
        pytest.fail(log.read_text())
    yield address, uploads
    process.terminate()
    process.wait(60)


def test_a_port_that_is_taken_is_one_sentence(served, served_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    port = served[0].rsplit(":", 1)[1]
    with pytest.raises(SystemExit, match="2"):
        demo.main(["--port", port, "--checkpoints", str(served_folder)])
    assert "cannot be served" in capsys.readouterr().err


# --- programs ---


def upload(address, path):
    with path.open("rb") as file:
        return httpx.post(f"{address}/gradio_api/upload", files={"files": file}).json()[0]


def told(stream):
    """The last event of a stream and its data."""
    name, data = stream.strip().split("\n\n")[-1].split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def call(address, endpoint, *data):
    place = f"{address}/gradio_api/call/{endpoint}"
    event = httpx.post(place, json={"data": data}).json()["event_id"]
    return told(httpx.get(f"{place}/{event}", timeout=60).text)


@pytest.fixture(scope="module")
def client(served, tmp_path_factory):
    from gradio_client import Client

    return Client(served[0], verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


def test_a_program_gets_the_same_answer_as_predict_py(client, predictor, portrait):
    from gradio_client import handle_file

    (seen,) = predictor.find(portrait)
    answer = client.predict(handle_file(portrait), SERVED, api_name="/predict")
    assert answer["label"] == seen.expression
    assert {c["label"]: c["confidence"] for c in answer["confidences"]} == pytest.approx(seen.probs)
    drawn, _, _, faces = client.predict(
        handle_file(portrait), SERVED, False, False, api_name="/photo"
    )
    probs = pytest.approx(seen.probs)
    assert faces == [{"box": list(seen.box), "sure": True, "probabilities": probs}]
    assert Image.open(drawn).size == (512, 512)


def test_a_picture_that_is_one_face_is_answered_too(
    client, served_folder, drawn_face, open_predictor
):
    from gradio_client import handle_file

    name = "tinyvgg-synthetic"
    answer = client.predict(handle_file(drawn_face), name, api_name="/predict")
    probs = open_predictor(served_folder / f"{name}.safetensors").predict(drawn_face)
    assert {c["label"]: c["confidence"] for c in answer["confidences"]} == pytest.approx(probs)


def test_a_program_gets_a_followed_video_and_a_reason_where_there_is_none(client, clip, letter):
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    video, timeline, table, words = client.predict(handle_file(clip), SERVED, api_name="/video")
    rows = list(csv.DictReader(io.StringIO(Path(table).read_text())))
    assert {row["track"] for row in rows} == {"1"} and len(rows) == 15
    assert Path(video).stat().st_size > 1000 and Image.open(timeline).width > 500
    assert "2.8 seconds" in words
    with pytest.raises(AppError, match="letter.mp4 is not a video that can be read"):
        client.predict(handle_file(letter.with_suffix(".mp4")), SERVED, api_name="/video")


def test_plain_http_as_by_curl(served, predictor, portrait):
    path = upload(served[0], portrait)
    picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
    event, (label,) = call(served[0], "predict", picture, SERVED)
    assert event == "complete"
    (seen,) = predictor.find(portrait)
    assert {c["label"]: c["confidence"] for c in label["confidences"]} == pytest.approx(seen.probs)
    event, answer = call(served[0], "predict", None, SERVED)
    assert event == "error" and "no picture yet" in answer["error"]


def test_nobody_is_shown_another_file_of_this_machine(served, portrait):
    event, _ = call(served[0], "photo", {"path": str(portrait)}, SERVED, False, False)
    assert event == "error"


def test_no_request_to_the_mirror_deletes_a_file(served, portrait, tmp_path):
    address, _ = served
    mine = shutil.copy(portrait, tmp_path / "mine.png")
    listed = httpx.get(f"{address}/config").json()["dependencies"]
    number = next(d["id"] for d in listed if d["api_name"] == "mirror")
    asked = {"data": [{"path": str(mine)}, None, SERVED], "fn_index": number, "session_hash": "me"}
    httpx.post(f"{address}/gradio_api/queue/join", json=asked)
    listen = {"params": {"session_hash": "me"}, "timeout": 30}
    with httpx.stream("GET", f"{address}/gradio_api/queue/data", **listen) as events:
        assert any("process_" in line and "starts" not in line for line in events.iter_lines())
    assert mine.exists()


# --- the page ---


@pytest.fixture
def page(browser, served):
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield opened(context, served[0])


def opened(context, address):
    page = context.new_page()
    page.goto(address)
    page.get_by_role("button", name="Name the expressions").wait_for(timeout=60_000)
    return page


def give(page, *files):
    """To the picture field, or to the visible tab's."""
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(list(files))


def clear(page):
    page.get_by_label("Clear").or_(page.get_by_label("Remove Image")).first.click()
    until(page, lambda: not page.evaluate(CARDS), lambda: page.evaluate(CARDS))


def shows(page, seen):
    """Waits for the cards of these faces."""
    wanted = [
        [f"{k} · {face.expression}", EMOJI[face.expression],
         [[name, f"{100 * share:.0f} %"] for name, share in list(face.probs.items())[:4]]]
        for k, face in enumerate(seen, 1)
    ]  # fmt: skip
    until(page, lambda: page.evaluate(CARDS) == wanted, lambda: page.evaluate(CARDS))


def until(page, true, found, seconds=30):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"still {found()} after {seconds} seconds"
        page.wait_for_timeout(100)


def narrow(page):
    """Whether everything fits a phone held upright."""
    page.set_viewport_size(PHONE)
    page.wait_for_timeout(300)
    return page.evaluate("document.documentElement.scrollWidth") <= 390


def test_every_face_of_a_photo_has_its_card_and_its_map(
    page, predictor, served_folder, portrait, crowd, open_predictor
):
    give(page, portrait)
    shows(page, predictor.find(portrait))
    clear(page)
    give(page, crowd)
    shows(page, (seen := predictor.find(crowd)))
    assert len(seen) == 12
    page.get_by_label("Grad-CAM").check()
    until(page, lambda: page.locator(MAPS).count() == 12, page.locator(MAPS).count)
    page.get_by_label("Checkpoint").click()
    page.get_by_role("option", name="tinyvgg-synthetic").click()
    small = open_predictor(served_folder / "tinyvgg-synthetic.safetensors")
    shows(page, small.find(crowd))
    page.get_by_text("trained on synthetic").wait_for()


def test_a_cropped_face_is_answered_whole_and_so_are_drawn_examples(page, predictor, drawn_face):
    page.get_by_label("already cropped").check()
    give(page, drawn_face)
    shows(page, [FacePrediction((0, 0, 48, 48), predictor.predict(drawn_face))])
    clear(page)
    page.get_by_label("already cropped").uncheck()
    page.locator(".gallery-item").nth(1).click()  # drawn, cropped
    until(page, lambda: len(page.evaluate(CARDS)) == 1, lambda: page.evaluate(CARDS))
    assert page.get_by_label("already cropped").is_checked()


def test_a_photo_after_a_drawn_example_is_searched_for_faces(page, crowd):
    page.locator(".gallery-item").nth(1).click()
    until(page, lambda: len(page.evaluate(CARDS)) == 1, lambda: page.evaluate(CARDS))
    clear(page)
    give(page, crowd)
    until(page, lambda: len(page.evaluate(CARDS)) == 12, lambda: page.evaluate(CARDS), 8)


def test_unreadable_files_are_told_and_the_others_shown(page, portrait, crowd, letter):
    page.get_by_role("button", name="Name the expressions").click()
    page.get_by_text("There is no picture yet").wait_for()
    give(page, letter)
    reason = page.get_by_text("letter.jpg is not a picture that can be read")
    reason.wait_for()
    page.get_by_test_id("toast-close").last.click()
    reason.wait_for(state="detached")
    page.get_by_role("button", name="Several pictures").click()
    page.locator("input[type=file][multiple]").set_input_files([portrait, letter, crowd])
    captions = page.locator(".caption-label")
    wanted = ["astronaut.png: happy", "crowd.png: " + ", ".join(["happy"] * 12)]
    until(page, lambda: captions.all_inner_texts() == wanted, captions.all_inner_texts)
    reason.wait_for()
    assert narrow(page)
    # What was found is told in full: "astronaut.p…" told nothing
    cut = "[...document.querySelectorAll('.caption-label')].map(c => c.scrollWidth > c.clientWidth)"
    assert page.evaluate(cut) == [False, False]


def test_a_video_plays_with_its_faces_and_its_table_downloads(page, predictor, clip):
    page.get_by_role("tab", name="Video").click()
    give(page, clip)
    page.get_by_role("button", name="Follow the faces").click()
    page.get_by_text("2.8 seconds").wait_for(timeout=60_000)
    ready = "() => [...document.querySelectorAll('video')].map(v => [v.readyState, v.duration])"
    until(
        page,
        lambda: sum(state >= 2 and length > 2.5 for state, length in page.evaluate(ready)) == 2,
        lambda: page.evaluate(ready),
    )
    with page.expect_download() as download:
        page.locator("a[download]", has_text="KB").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert tuple(rows[0]) == (*COLUMNS, *predictor.class_names)
    assert {row["track"] for row in rows} == {"1"}
    timeline = "[...document.querySelectorAll('img')].some(i => i.naturalWidth > 900)"
    until(page, lambda: page.evaluate(timeline), lambda: "no timeline")
    assert narrow(page)
    assert page.locator(".timeline img").bounding_box()["width"] >= 600  # else nobody reads it


def test_on_a_phone_no_tab_is_wider_than_the_screen(page, crowd):
    page.set_viewport_size(PHONE)
    give(page, crowd)
    page.get_by_label("Grad-CAM").check()
    page.locator(MAPS).last.wait_for()
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.wait_for_function(
            "dark => document.body.matches('.dark') === dark", arg=theme == "dark"
        )
        for tab in ("Photo", "Mirror", "Video"):
            page.get_by_role("tab", name=tab).click()
            assert narrow(page), (theme, tab)


# --- the mirror ---


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


def record_button(page):
    """The mirror's Record (later Stop), after the camera was allowed."""
    page.get_by_role("tab", name="Mirror").click()
    page.get_by_text("Click to Access Webcam").locator("visible=true").click()
    return page.get_by_label("capture photo").locator("visible=true")


def test_the_mirror_follows_the_face_and_keeps_no_picture(film, filmed_browser, served):
    path, expressions = film
    address, uploads = served
    with filmed_browser(path) as browser, browser.new_context(permissions=["camera"]) as context:
        page = opened(context, address)
        before = set(uploads.rglob("*"))
        record = record_button(page)
        page.evaluate(WATCH)
        record.click()

        def answers():
            assert set(uploads.rglob("*")) == before, "a frame lies on the disk"
            return page.evaluate("window.answers")

        def fast_and_both():
            times, names = zip(*(answers() or [(0, None)]), strict=True)
            most = max(sum(t <= u < t + 3000 for u in times) for t in times)
            return most >= 6 and set(expressions) <= set(names)  # two a second, for a while

        until(page, fast_and_both, answers, 60)
        record.click()
        until(page, lambda: record.inner_text() == "Record", record.inner_text)
        page.wait_for_timeout(1000)
        answered = len(answers())
        page.wait_for_timeout(1000)
        assert len(answers()) == answered
        assert narrow(page)


def overlap(one, other):
    """The area in px² that two boxes of a page, or a box of a page and (x, y, w, h), share."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = (
        (box["x"], box["y"], box["width"], box["height"]) if isinstance(box, dict) else box
        for box in (one, other)
    )
    width, height = min(ax + aw, bx + bw) - max(ax, bx), min(ay + ah, by + bh) - max(ay, by)
    return max(width, 0) * max(height, 0)


def test_the_mirror_fits_a_phone(film, filmed_browser, served):
    # Side by side, the camera was 160 px wide at 390, the bars 0 px, and Stop lay over the mouth.
    with (
        filmed_browser(film[0]) as browser,
        browser.new_context(permissions=["camera"], viewport=PHONE) as context,
    ):
        page = opened(context, served[0])
        stop = record_button(page)
        stop.click()
        page.locator(".mirror .bar").first.wait_for()
        for width, stacked in ((390, True), (767, True), (768, False)):
            page.set_viewport_size({"width": width, "height": 844})
            page.wait_for_timeout(500)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            camera = page.locator(".camera video").bounding_box()
            answer = page.locator(".mirror").bounding_box()
            assert (answer["y"] >= camera["y"] + camera["height"]) == stacked, width
            if stacked:
                row = page.locator(".camera-and-answer").bounding_box()
                assert camera["width"] == answer["width"] == pytest.approx(row["width"], abs=1)
            assert camera["width"] >= 300, width
            bars = [bar.bounding_box()["width"] for bar in page.locator(".mirror .track").all()]
            assert min(bars) >= 120, (width, bars)
            emoji = page.locator(".mirror .emoji").bounding_box()
            assert 72 <= emoji["height"] <= 150 and not overlap(emoji, camera), width
            x, y = camera["width"] / 320, camera["height"] / 240  # of the film's picture
            face = camera["x"] + 60 * x, camera["y"] + 35 * y, 200 * x, 180 * y
            assert not overlap(stop.bounding_box(), face), width
