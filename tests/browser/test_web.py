"""The page that needs no server, in a real browser: it answers as Python does, sends nothing, and
says what is wrong in one sentence.

Faces are the astronaut's of scikit-image, and real ones where EXPRESSION_DATA has them.
"""

import base64
import io
import subprocess
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from expression.checkpoint import resolve_checkpoint
from expression.face_prediction import NOT_SURE
from expression.predictor import ExpressionPredictor

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
GROUND = (90, 110, 100)
LARGEST_LOAD, ANSWERS = 10e6, 15  # bytes, and in 20 seconds; benchmarks/page.py has the speeds
READY = "async () => { await (await import('./engine.js')).engine.ready; }"
ASK = """async ([name, type, data]) => {
    const { engine } = await import('./engine.js');
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    return engine.ask('photo', { file: new File([bytes], name, { type }) }); }"""
# Frames as [seconds, base64] through the mirror's tracker
FOLLOW = """async (frames) => {
    const { engine } = await import('./engine.js');
    await engine.ask('restart');
    const answers = [];
    for (const [seconds, data] of frames) {
        const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
        const bitmap = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
        answers.push((await engine.ask('frame', { bitmap, seconds }, [bitmap])).faces);
    }
    return answers; }"""
# Every answer of the mirror: [milliseconds, word]
WATCH = """async () => {
    const { engine } = await import('./engine.js');
    const ask = engine.ask.bind(engine);
    window.answers = [];
    engine.ask = async (...given) => {
        const answer = await ask(...given);
        const face = answer.faces?.[0];
        if (given[0] === 'frame' && face) window.answers.push([performance.now(), face.label]);
        return answer;
    }; }"""


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, and notes each request in `server.asked`: (path, bytes)."""

    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *words):
        pass


def serve(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    server.asked = []
    server.address = f"http://127.0.0.1:{server.server_port}/"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The page, built from what stands in web/ now."""
    done = subprocess.run(
        [ROOT / "tools" / "prepare_web.sh"], capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        pytest.skip(f"the page needs npm: {done.stderr.strip()[-300:]}")
    from web.build import build

    out = tmp_path_factory.mktemp("web") / "dist"
    build(out, resolve_checkpoint("expression"))
    return out


@pytest.fixture(scope="module")
def server(dist):
    server = serve(dist)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def predictor():
    return ExpressionPredictor("expression")


def opened(context, server):
    page = context.new_page()
    page.goto(server.address)
    page.evaluate(READY)
    return page


@pytest.fixture(scope="module")
def shared(browser, server):
    """One page for all tests that only ask."""
    with browser.new_context() as context:
        yield opened(context, server)


@pytest.fixture
def page(browser, server):
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield opened(context, server)


# --- pictures ---


def scene(face, shift=0, size=(320, 240)):
    """A face before a camera."""
    picture = Image.new("RGB", size, GROUND)
    picture.paste(face.resize((170, 170)), (75 + shift, 35 + shift // 2))
    return picture


def face_of(astronaut):
    return astronaut.crop((140, 20, 310, 190))


def stored(picture, kind="PNG", **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def text_of(content):
    return base64.b64encode(content).decode()


def crowd(astronaut, size):
    """Eight faces of different sizes."""
    picture = Image.new("RGB", size, GROUND)
    face = astronaut.crop((140, 20, 310, 220))
    for k in range(8):
        side = size[0] // (5 + k)
        place = (20 + size[0] // 4 * (k % 4), 20 + size[1] // 2 * (k // 4))
        picture.paste(face.resize((side, side * 20 // 17)), place)
    return picture


def transparent(astronaut):
    picture = astronaut.convert("RGBA")
    picture.putalpha(Image.new("L", picture.size, 255).point(lambda v: v))
    picture.paste((0, 0, 0, 0), (0, 300, 512, 512))
    return picture


def sideways(astronaut):
    """A JPEG as phones write it: stored lying, with a note how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = scene(face_of(astronaut)).transpose(Image.Transpose.ROTATE_90)
    return stored(turned, "JPEG", quality=95, exif=exif)


PICTURES = {
    "portrait.png": lambda a: stored(a),
    "gray.png": lambda a: stored(a.convert("L")),
    "crowd.png": lambda a: stored(crowd(a, (640, 480))),
    "wide.png": lambda a: stored(crowd(a, (1501, 733))),
    "small.png": lambda a: stored(a.resize((90, 90))),
    "lying.png": lambda a: stored(a.rotate(90)),
    "tilted.png": lambda a: stored(a.rotate(38, Image.Resampling.BILINEAR)),
    "leaning.png": lambda a: stored(a.rotate(21, Image.Resampling.BILINEAR)),
    "edge.png": lambda a: stored(a.crop((200, 60, 512, 300))),
    "transparent.png": lambda a: stored(transparent(a)),
    "nobody.png": lambda a: stored(Image.new("RGB", (300, 200), GROUND)),
    "photo.jpg": lambda a: stored(scene(face_of(a)), "JPEG", quality=90),
    "sideways.jpg": sideways,
}


def ask(page, name, content):
    kind = "image/jpeg" if name.endswith(".jpg") else "image/png"
    return page.evaluate(ASK, [name, kind, text_of(content)])


def same(found, seen, apart=0.002):
    """Whether faces of the page are those of Python: boxes within a pixel, words, probabilities."""
    assert len(found) == len(seen)
    for one, other in zip(found, seen, strict=True):
        assert one["box"] == pytest.approx(other.box, abs=1)
        assert one["label"] == other.label
        assert dict(one["probs"]) == pytest.approx(other.probs, abs=apart)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_gets_the_answer_that_python_gives(shared, predictor, astronaut, name):
    content = PICTURES[name](astronaut)
    answer = ask(shared, name, content)
    same(answer["faces"], predictor.find(content))
    assert bool(answer["faces"]) == (name != "nobody.png")
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).size
    assert (answer["width"], answer["height"]) == upright


def test_real_faces_get_the_answers_that_python_gives(shared, predictor, small_folder):
    from lab import datasets

    sure = set()
    for row in islice(datasets.load(small_folder)["validation"], 12):
        content = stored(row["image"])
        seen = predictor.find(content)
        same(ask(shared, "face.png", content)["faces"], seen)
        sure |= {face.sure for face in seen}
    assert sure == {True, False}, "both a name and a 'not sure' should be compared"


@pytest.mark.parametrize("size", [(3000, 2000), (4400, 3300)])
def test_a_large_photo_gets_the_same_words(shared, predictor, astronaut, size):
    # From 4096 pixels on, Pillow decodes at half the size, and the page scales
    content = stored(crowd(astronaut, size), "JPEG", quality=90)
    found, seen = ask(shared, "large.jpg", content)["faces"], predictor.find(content)
    assert [face["label"] for face in found] == [face.label for face in seen]
    for one, other in zip(found, seen, strict=True):
        assert one["box"] == pytest.approx(other.box, abs=max(size) / 200)


def test_a_face_is_followed_and_averaged_as_python_does(shared, predictor, astronaut):
    face = face_of(astronaut)
    turned = ImageOps.mirror(face).rotate(8, Image.Resampling.BILINEAR)
    frames = [(k / 10, scene(face if k < 12 else turned, 3 * k - 30)) for k in range(24)]
    frames[18:20] = [
        (seconds, Image.new("RGB", (320, 240), GROUND)) for seconds, _ in frames[18:20]
    ]
    tracker = predictor.tracker(appearance=None)
    answers = shared.evaluate(FOLLOW, [[at, text_of(stored(image))] for at, image in frames])
    for (at, image), found in zip(frames, answers, strict=True):
        same(found, tracker(image, at))
    assert [len(found) for found in answers].count(1) >= 20


# --- loading ---


def test_it_loads_little_and_then_nothing_more(browser, server, dist, portrait):
    server.asked.clear()
    with browser.new_context() as context:
        page = opened(context, server)
        asked = [path.lstrip("/") or "index.html" for path in server.asked]
        loaded = sum((dist / name).stat().st_size for name in asked)
        assert loaded <= LARGEST_LOAD, sorted(asked)
        assert asked.count("expression.onnx") == asked.count("faces.onnx") == 1
        server.asked.clear()
        context.set_offline(True)
        page.locator("#file").set_input_files(portrait)
        page.locator(".card .word").wait_for()
        page.get_by_role("tab", name="Mirror").click()
        assert server.asked == []


def test_no_part_of_it_may_send_anything_elsewhere(page, dist):
    # The worker sees the pictures. One fetched by its address is under no policy of the page.
    elsewhere = serve(dist)
    try:
        reach = f"fetch('{elsewhere.address}').then(() => 'sent', () => 'stopped')"
        (worker,) = page.workers
        assert worker.url.startswith("blob:")
        assert [page.evaluate(reach), worker.evaluate(reach)] == ["stopped", "stopped"]
        assert elsewhere.asked == []
    finally:
        elsewhere.shutdown()
        elsewhere.server_close()


# --- the mirror ---


@pytest.fixture(scope="module")
def film(astronaut, tmp_path_factory):
    """A face that moves: three seconds, 30 frames each, 640 × 480."""
    path = tmp_path_factory.mktemp("films") / "film.mjpeg"
    with path.open("wb") as file:
        for k in range(90):
            picture = scene(face_of(astronaut), 20 - abs(k % 40 - 20)).resize((640, 480))
            file.write(stored(picture, "JPEG", quality=90))
    return path


def test_the_mirror_answers_again_and_again_and_stops(film, filmed_browser, server):
    with filmed_browser(film) as browser, browser.new_context(permissions=["camera"]) as context:
        page = opened(context, server)
        page.evaluate(WATCH)
        page.get_by_role("button", name="Start the camera").click()
        deadline = time.monotonic() + 20  # the page's policy lets no text be run: asked again
        while len(page.evaluate("window.answers")) < ANSWERS and time.monotonic() < deadline:
            page.wait_for_timeout(200)
        assert len(page.evaluate("window.answers")) >= ANSWERS
        assert {word for _, word in page.evaluate("window.answers")} == {"happy"}
        answer = page.locator(".answer")
        assert answer.locator(".word").inner_text() == "happy"
        assert "happy" in page.locator("#mirror [aria-live]").text_content()
        box, camera = (page.locator(f"#mirror {it}").bounding_box() for it in (".box", "video"))
        assert camera["x"] <= box["x"] and box["width"] < camera["width"] / 2
        page.get_by_role("button", name="Stop the camera").click()
        page.wait_for_timeout(300)
        count = len(page.evaluate("window.answers"))
        page.wait_for_timeout(500)
        assert len(page.evaluate("window.answers")) == count
        assert answer.locator(".word").inner_text() == "Nobody yet"


# --- what it looks like, and for whom ---


def violations(page):
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    return [(v["id"], [node["html"][:120] for node in v["nodes"]]) for v in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_screen_and_everybody_can_read_it(
    browser, server, astronaut, tmp_path, scheme
):
    picture = tmp_path / "crowd.png"
    crowd(astronaut, (640, 480)).save(picture)
    with browser.new_context(color_scheme=scheme) as context:
        page = opened(context, server)
        assert violations(page) == []
        page.locator("#file").set_input_files(picture)
        page.locator(".card").nth(7).wait_for()
        assert violations(page) == []
        for width in (360, 1280, 1920):
            page.set_viewport_size({"width": width, "height": 900})
            for tab in ("Mirror", "Photo"):
                page.get_by_role("tab", name=tab).click()
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (tab, width)
                tracks = page.locator("[role=tabpanel]:visible .track").all()
                assert min(track.bounding_box()["width"] for track in tracks) >= 60
        page.goto(f"{server.address}figures.html")
        assert violations(page) == []
        assert page.get_by_role("rowheader", name="Test of muxspace").count() == 1


def test_the_keyboard_reaches_everything(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "tab-mirror"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "start"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("tab", name="Photo").get_attribute("aria-selected") == "true"
    page.keyboard.press("Tab")
    page.evaluate(
        "() => { document.querySelector('#file').onclick = (event) => {"
        " event.preventDefault(); window.chosen = true; }; }"
    )
    page.keyboard.press("Enter")
    assert page.evaluate("window.chosen")


def test_a_photo_may_be_pasted_and_dropped(page, portrait):
    give = """([kind, data]) => {
        const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
        const files = new DataTransfer();
        files.items.add(new File([bytes], 'face.png', { type: 'image/png' }));
        const event = kind === 'paste'
            ? new ClipboardEvent('paste', { clipboardData: files, bubbles: true })
            : new DragEvent('drop', { dataTransfer: files, bubbles: true, cancelable: true });
        document.querySelector('#photo .stage').dispatchEvent(event); }"""
    for kind in ("paste", "drop"):
        page.evaluate(give, [kind, text_of(portrait.read_bytes())])
        page.locator(".card .word").wait_for()
        assert page.locator(".card .word").all_inner_texts() == ["happy"]
        assert "happy" in page.locator("#photo img").get_attribute("alt")
        page.evaluate("document.querySelector('.cards').replaceChildren()")


# --- what goes wrong is one sentence ---


def message(page):
    place = page.locator("[role=tabpanel]:visible .message")
    place.wait_for()
    sentence = place.inner_text()
    assert sentence.endswith(".") and sentence.count(".") == 1 + sentence.count("letter.jpg")
    return sentence


def test_a_file_that_is_no_picture_and_a_photo_without_faces_are_told(page, letter, tmp_path):
    page.locator("#file").set_input_files(letter)
    assert "letter.jpg" in message(page)
    Image.new("RGB", (300, 200), GROUND).save(tmp_path / "nobody.png")
    page.locator("#file").set_input_files(tmp_path / "nobody.png")
    page.get_by_text("No face was found").wait_for()
    assert not page.locator(".card").count()
    assert page.locator("#photo .message").is_hidden()


@pytest.mark.parametrize(
    ("name", "word"),
    [("NotAllowedError", "blocked"), ("NotFoundError", "No camera"), ("NotReadableError", "busy")],
)
def test_a_camera_that_cannot_be_used_is_told(page, name, word):
    page.evaluate(
        "name => { navigator.mediaDevices.getUserMedia = () =>"
        " Promise.reject(new DOMException('no', name)); }",
        name,
    )
    page.get_by_role("button", name="Start the camera").click()
    assert word in message(page)


def test_a_browser_that_denies_the_camera(page):
    page.get_by_role("button", name="Start the camera").click()  # no permission, no camera
    assert "camera" in message(page).lower()


def test_a_browser_without_webassembly(browser, server):
    with browser.new_context() as context:
        page = context.new_page()
        page.add_init_script("delete globalThis.WebAssembly")
        page.goto(server.address)
        assert "WebAssembly" in message(page)
        assert page.locator("#start").is_disabled()


def test_networks_that_do_not_arrive(browser, server):
    with browser.new_context() as context:
        page = context.new_page()
        page.route("**/faces.onnx", lambda route: route.fulfill(status=404))
        page.goto(server.address)
        page.locator("#mirror .message").wait_for()
        assert "faces.onnx" in page.locator("#mirror .message").inner_text()


# --- the build ---


def test_numbers_and_words_come_from_the_card(dist, predictor):
    import json

    text = (dist / "settings.js").read_text(encoding="utf-8")
    settings = json.loads(text.removeprefix("export const settings = ").rstrip(";\n"))
    assert settings["card"]["classNames"] == list(predictor.class_names)
    assert settings["card"]["minConfidence"] == predictor.min_confidence
    assert settings["card"]["notSure"] == NOT_SURE
    page = (dist / "index.html").read_text(encoding="utf-8")
    assert "{{" not in page and "fer2013" in page


def test_a_page_without_its_runtime_or_for_another_rule_is_refused(dist, tmp_path, monkeypatch):
    from web import build

    with pytest.raises(ValueError, match="squash"):
        build.answers({"preprocess": {"size": 8, "resize": "crop"}, "class_names": ["happy"]})
    monkeypatch.setattr(build, "RUNTIME", tmp_path)
    with pytest.raises(FileNotFoundError, match="prepare_web"):
        build.build(tmp_path / "dist", resolve_checkpoint("expression"))
