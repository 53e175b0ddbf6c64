"""The server for programs: what it takes in, what it refuses, and that no answer is mixed up.

No trained network and no socket: each picture is one face as wide as it, white ones are "happy",
black ones "sad", gray ones break the network, and red ones have no face.
"""

import asyncio
import io
import json
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from expression import server, server_app
from expression.app.serving import Serving
from expression.checkpoint import save_checkpoint
from expression.face_detector import Face
from expression.predictor import ExpressionPredictor
from expression.request_batches import Batching
from expression.server_uploads import Uploads
from expression.tables import face_entry

NAMES = ["happy", "neutral", "sad"]


class Finder:
    """One face as wide as the picture, none in red ones; waits while `gate` is closed."""

    def __init__(self):
        self.gate, self.seen = threading.Event(), []
        self.gate.set()

    def find(self, image):
        self.seen.append(image.width)
        assert self.gate.wait(5)
        red, green, _ = image.convert("RGB").getpixel((0, 0))
        return [] if red > green + 50 else [Face((0, 0, image.width, 40), 0.9, 2.04)]


def network(images):
    """Logits by brightness; images (N, 1, 8, 8) in [-1, 1]."""
    shares = images.mean(axis=(1, 2, 3))
    broken = (float("nan"),) * 3
    return np.array([(5, 0, 0) if s > 0.5 else (0, 0, 5) if s < -0.5 else broken for s in shares])


@pytest.fixture
def predictor(card, tmp_path):
    path = tmp_path / "fake.safetensors"
    save_checkpoint(path, {"w": np.zeros(1, np.float32)}, {**card, "class_names": NAMES})
    return ExpressionPredictor(path, Finder(), lambda _: network, min_confidence=0.5)


def picture(colour="white", width=60, kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (width, 60), colour).save(file, kind)
    return file.getvalue()


def run(coroutine):
    """In a thread of its own: a browser test may have left a loop in this one. An answer that never
    comes fails the test after a while."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(asyncio.wait_for(coroutine, 30))).result()


@asynccontextmanager
async def client_of(app):
    transport = httpx.ASGITransport(app=app)
    async with app.router.lifespan_context(app):
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client


def asked(predictor, *requests, **settings):
    """The answers to requests, one after the other: each (method, path, arguments of httpx)."""

    async def ask():
        async with client_of(server_app.make_app(predictor, **settings)) as client:
            return [await client.request(how, path, **more) for how, path, more in requests]

    return run(ask())


def post(content, path="/predict", **more):
    return "POST", path, {"content": content, **more}


def form(*files):
    return "POST", "/predict", {"files": [("picture", file) for file in files]}


def is_one_sentence(answer):
    words = answer.json()
    return set(words) == {"error"} and "\n" not in words["error"] and len(words["error"]) < 200


async def until(true, seconds=10):
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    assert true()


def figures(text):
    """{(name, the label's value or ""): value} of Prometheus' text format."""
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def ended(metrics):
    """{outcome: requests} of those that came."""
    return {
        outcome: count
        for (name, outcome), count in figures(metrics.text).items()
        if name == "expression_requests_total" and count
    }


# --- answers ---


def test_a_face_is_written_as_the_command_line_does(predictor):
    # Two programs, two spellings of one thing: whoever moves from one to the other rewrites theirs
    (answer,) = asked(predictor, post(picture("white", 80)))
    (face,) = answer.json()["faces"]
    (found,) = predictor.find(Image.open(io.BytesIO(picture("white", 80))))
    command = json.loads(json.dumps(face_entry(found, None)))
    assert {key: face[key] for key in command} == command
    assert face.keys() - command.keys() == {"label", "tilt"}
    assert (face["box"], face["label"], face["tilt"]) == ([0, 0, 80, 40], "happy", 2.0)
    assert answer.json()["model"] == "fake"


def test_the_shapes_in_the_documentation_are_those_of_the_answers(predictor):
    answer, health, told = asked(
        predictor, post(picture()), ("GET", "/health", {}), ("GET", "/openapi.json", {})
    )
    shapes = told.json()["components"]["schemas"]
    assert shapes["Answer"]["properties"].keys() == answer.json().keys()
    assert shapes["Face"]["properties"].keys() == answer.json()["faces"][0].keys()
    assert shapes["Health"]["properties"].keys() == health.json().keys()
    body = told.json()["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert "multipart/form-data" in body


def test_unsure_answers_say_so(predictor):
    predictor.min_confidence = 0.999
    (answer,) = asked(predictor, post(picture()))
    (face,) = answer.json()["faces"]
    assert (face["expression"], face["sure"], face["label"]) == ("happy", False, "not sure")


def test_a_form_and_a_body_get_the_same_answer(predictor, monkeypatch):
    # Starlette's reader of forms puts files above 1 MB on the disk
    def no_file(*_, **__):
        raise AssertionError("a picture on the disk")

    for name in ("SpooledTemporaryFile", "TemporaryFile", "NamedTemporaryFile", "mkstemp"):
        monkeypatch.setattr(f"tempfile.{name}", no_file)
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(200, 256, (1000, 900, 3), np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    assert len(file.getvalue()) > 1_200_000
    body, sent = asked(predictor, post(file.getvalue()), form(file.getvalue()))
    assert body.status_code == sent.status_code == 200 and body.json() == sent.json()


def test_no_face_is_an_answer_and_a_whole_picture_is_one(predictor):
    none, whole = asked(
        predictor, post(picture("red")), post(picture("black", 70), "/predict?whole=1")
    )
    assert none.status_code == 200 and none.json()["faces"] == []
    (face,) = whole.json()["faces"]
    assert (face["box"], face["label"]) == ([0, 0, 70, 60], "sad")
    assert predictor.finder.seen == [60]  # of the first alone


def test_boxes_are_in_pixels_of_the_file(predictor):
    # A large JPEG is opened at a half: boxes of that would point into the wrong place
    file = io.BytesIO()
    Image.new("L", (4600, 4200), 255).save(file, "JPEG")
    (answer,) = asked(predictor, post(file.getvalue()))
    assert answer.json()["faces"][0]["box"] == [0, 0, 4600, 80] and predictor.finder.seen == [2300]


def test_each_client_gets_the_answer_to_its_own_picture(predictor):
    # Batches across clients: one list sorted otherwise, and strangers read each other's answers
    colours = ["white", "black", "red"]
    predictor.finder.gate.clear()

    async def ask():
        async with client_of(server_app.make_app(predictor, how=Batching(pictures=7))) as client:
            requests = [
                client.post("/predict", content=picture(colours[k % 3], 100 + k)) for k in range(60)
            ]
            waiting = asyncio.gather(*requests)
            await asyncio.sleep(0.2)
            predictor.finder.gate.set()
            return await waiting, (await client.get("/metrics")).text

    answers, metrics = run(ask())
    told = [
        [(face["box"][2], face["label"]) for face in answer.json()["faces"]] for answer in answers
    ]
    labels = ["happy", "sad"]
    assert told == [[(100 + k, labels[k % 3])] if k % 3 < 2 else [] for k in range(60)]
    read = figures(metrics)
    assert read["expression_batch_pictures_sum", ""] == 60
    assert read["expression_batch_pictures_count", ""] < 20, "not answered together"
    assert (
        read["expression_batch_pictures_bucket", "8.0"]
        == read["expression_batch_pictures_count", ""]
    )


def test_one_picture_that_breaks_the_network_spoils_no_other_answer(predictor, capsys):
    predictor.finder.gate.clear()

    async def ask():
        async with client_of(server_app.make_app(predictor)) as client:
            colours = ["white", "gray", "black", "white"]
            waiting = asyncio.gather(
                *(client.post("/predict", content=picture(c)) for c in colours)
            )
            await asyncio.sleep(0.1)
            predictor.finder.gate.set()
            return await waiting

    answers = run(ask())
    assert [answer.status_code for answer in answers] == [200, 500, 200, 200]
    assert is_one_sentence(answers[1]) and str(predictor.path.parent) not in answers[1].text
    assert str(predictor.path) in capsys.readouterr().err  # whoever runs it learns what it was


def test_a_fault_in_the_search_does_not_end_the_server(predictor, capsys):
    def fault(image):
        raise MemoryError

    predictor.finder.find = fault
    broken = asked(predictor, post(picture()), post(picture()))
    assert [answer.status_code for answer in broken] == [500, 500]
    assert "MemoryError" in capsys.readouterr().err


# --- refusals ---


@pytest.mark.parametrize(
    "content", [b"", b"hello", picture()[:40], b"<svg></svg>", b"\xff\xd8\xff"]
)
def test_what_is_no_picture_is_refused_in_one_sentence(content, predictor):
    refused, metrics = asked(predictor, post(content), ("GET", "/metrics", {}))
    assert refused.status_code == 422 and is_one_sentence(refused)
    assert ended(metrics) == {"not_a_picture": 1}


def test_other_refusals_are_one_sentence_too(predictor):
    body = form(picture())
    cut = httpx.Request("POST", "http://a", files=body[2]["files"])
    headers = {"Content-Type": cut.headers["content-type"]}
    nameless = {"Content-Type": "multipart/form-data"}
    answers = asked(
        predictor,
        form(picture(), picture()),
        post(cut.read()[:-30], headers=headers),  # a form that was cut off
        post(picture(), headers=nameless),
        ("POST", "/predict", {"files": [(f"field{k}", (None, b"a")) for k in range(100)]}),
        post(picture(), "/predict?whole=perhaps"),
        post(picture(), "/predict?whle=1"),  # it got the answer to a whole photo
        ("GET", "/predict", {}),
        ("GET", "/docs", {}),
        ("GET", "/metrics", {}),
    )
    *answers, metrics = answers
    assert [answer.status_code for answer in answers] == [422] * 6 + [405, 404]
    assert all(map(is_one_sentence, answers))
    assert "whole" in answers[5].json()["error"] and not predictor.finder.seen
    assert ended(metrics) == {"bad_request": 8}  # the last four used to be counted nowhere


def test_too_large_is_refused_whether_or_not_it_says_so(predictor):
    async def endless():
        while True:
            yield b"a" * 1000

    small = Uploads(largest=5000)
    told, untold, metrics = asked(
        predictor, post(b"a" * 5001), post(endless()), ("GET", "/metrics", {}), uploads=small
    )
    assert (told.status_code, untold.status_code) == (413, 413) and small.held == 0
    assert is_one_sentence(told) and ended(metrics) == {"too_large": 2}


def test_a_full_queue_says_when_to_come_again_and_loses_nobody(predictor):
    predictor.finder.gate.clear()

    async def ask():
        app = server_app.make_app(predictor, how=Batching(queue=3, pictures=2, threads=2))
        async with client_of(app) as client:
            first = [
                asyncio.ensure_future(client.post("/predict", content=picture())) for _ in "ab"
            ]
            await until(lambda: len(predictor.finder.seen) == 2)  # a batch is being answered
            waits = [
                asyncio.ensure_future(client.post("/predict", content=picture())) for _ in "abc"
            ]
            await asyncio.sleep(0.05)
            refused = [await client.post("/predict", content=picture()) for _ in "ab"]
            predictor.finder.gate.set()
            answered = await asyncio.gather(*first, *waits)
            return answered, refused, await client.get("/metrics")

    answered, refused, metrics = run(ask())
    assert [answer.status_code for answer in answered] == [200] * 5
    for answer in refused:
        assert answer.status_code == 429 and is_one_sentence(answer)
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert ended(metrics) == {"answered": 5, "queue_full": 2}


def test_all_pictures_that_are_held_share_one_bound(predictor):
    # 256 clients of 20 MB would be 5 GB
    uploads = Uploads(most=2 * len(picture()) + 10)
    predictor.finder.gate.clear()

    async def ask():
        async with client_of(server_app.make_app(predictor, uploads=uploads)) as client:
            held = [asyncio.ensure_future(client.post("/predict", content=picture())) for _ in "ab"]
            await until(lambda: uploads.held == 2 * len(picture()))
            refused = await client.post("/predict", content=picture())
            predictor.finder.gate.set()
            return [await answer for answer in held], refused

    held, refused = run(ask())
    assert [answer.status_code for answer in held] == [200, 200] and uploads.held == 0
    assert refused.status_code == 429 and "Retry-After" in refused.headers


def test_who_sends_too_slowly_is_told_so(predictor):
    async def slow():
        yield b"a"
        await asyncio.sleep(30)
        yield b"b"

    uploads = Uploads(seconds=0.1)
    (answer,) = asked(predictor, post(slow()), uploads=uploads)
    assert answer.status_code == 408 and is_one_sentence(answer) and uploads.held == 0


def test_only_its_own_names_are_answered(predictor):
    # DNS rebinding: the browser takes this server for evil.test, and lets its scripts read it
    hosts = ("localhost", "127.0.0.1:8000", "proxy.test", "evil.test", "192.0.2.7")
    *answers, metrics = asked(
        predictor,
        *(post(picture(), headers={"Host": host}) for host in hosts),
        ("GET", "/metrics", {}),
        serving=Serving(names=("proxy.test",)),
    )
    assert [answer.status_code for answer in answers] == [200, 200, 200, 403, 403]
    assert is_one_sentence(answers[3])  # as all others: it was text, "This page answers…"
    assert ended(metrics) == {"answered": 3, "wrong_host": 2}


# --- clients who go ---


def visit(messages, gone):
    """An ASGI request for an answer: `receive` gives `messages`, then waits for `gone`."""
    scope = {
        "type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict",
        "query_string": b"", "headers": [(b"host", b"localhost")], "http_version": "1.1",
        "scheme": "http", "server": ("localhost", 80), "client": ("127.0.0.1", 1),
        "root_path": "", "asgi": {"version": "3.0"},
    }  # fmt: skip
    rest = iter(messages)

    async def receive():
        if (message := next(rest, None)) is not None:
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    return scope, receive


async def ignore(message):
    pass


def test_who_hangs_up_while_waiting_costs_nothing_further(predictor):
    predictor.finder.gate.clear()
    uploads = Uploads()

    async def ask():
        app = server_app.make_app(predictor, how=Batching(queue=2, pictures=1), uploads=uploads)
        async with client_of(app) as client:
            stays = asyncio.ensure_future(client.post("/predict", content=picture("white", 81)))
            await until(lambda: predictor.finder.seen == [81])
            gone = asyncio.Event()
            body = {"type": "http.request", "body": picture("white", 82)}
            visits = [asyncio.ensure_future(app(*visit([body], gone), ignore)) for _ in "ab"]
            await asyncio.sleep(0.05)
            full = await client.post("/predict", content=picture("white", 83))
            gone.set()
            await asyncio.gather(*visits)
            later = asyncio.ensure_future(client.post("/predict", content=picture("white", 84)))
            await asyncio.sleep(0.05)
            predictor.finder.gate.set()
            return [full, await stays, await later], await client.get("/metrics")

    answers, metrics = run(ask())
    assert [answer.status_code for answer in answers] == [429, 200, 200]
    assert predictor.finder.seen == [81, 84]  # neither opened nor searched
    assert ended(metrics)["hung_up"] == 2 and uploads.held == 0


def test_who_hangs_up_while_sending_is_no_error(predictor):
    uploads = Uploads()

    async def ask():
        app = server_app.make_app(predictor, uploads=uploads)
        async with client_of(app) as client:
            gone = asyncio.Event()
            gone.set()
            part = {"type": "http.request", "body": picture()[:50], "more_body": True}
            await app(*visit([part], gone), ignore)
            return await client.get("/metrics")

    assert ended(run(ask())) == {"hung_up": 1}
    assert predictor.finder.seen == [] and uploads.held == 0


# --- the end ---


def test_a_stop_answers_what_was_taken_in(predictor):
    predictor.finder.gate.clear()

    async def ask():
        app = server_app.make_app(predictor, how=Batching(pictures=2))
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            async with app.router.lifespan_context(app):
                waiting = [
                    asyncio.ensure_future(client.post("/predict", content=picture("white", 70 + k)))
                    for k in range(9)
                ]
                await until(lambda: predictor.finder.seen)
                await asyncio.sleep(0.05)
                threading.Timer(0.2, predictor.finder.gate.set).start()
            late = await client.post("/predict", content=picture())
            return await asyncio.gather(*waiting), late, await client.get("/health")

    answers, late, health = run(ask())
    assert [answer.json()["faces"][0]["box"][2] for answer in answers] == [70 + k for k in range(9)]
    assert late.status_code == 503 and is_one_sentence(late)
    assert health.status_code == 503 and health.json()["ready"] is False


# --- about itself ---


def test_metrics_count_each_request_once(predictor):
    import hashlib

    *_, metrics, health = asked(
        predictor, post(picture()), post(picture("red")), post(b"a"), ("GET", "/metrics", {}),
        ("GET", "/health", {}),
    )  # fmt: skip
    read = figures(metrics.text)
    assert metrics.headers["content-type"].startswith("text/plain")
    assert ended(metrics) == {"answered": 2, "not_a_picture": 1}
    assert read["expression_faces_total", ""] == 1 and read["expression_queue_length", ""] == 0
    assert read["expression_request_seconds_count", ""] == 2
    sha256 = hashlib.sha256(predictor.path.read_bytes()).hexdigest()
    assert health.json()["model"] == {"name": "fake", "sha256": sha256} and sha256 in metrics.text
    assert health.json()["classes"] == NAMES


def test_its_pages_load_nothing_from_elsewhere(predictor):
    # FastAPI's own /docs fetch their scripts from a CDN
    page, docs, redoc = asked(predictor, *(("GET", p, {}) for p in ("/", "/docs", "/redoc")))
    assert page.status_code == 200 and "openapi.json" in page.text
    assert "src=" not in page.text and "https:" not in page.text and "//cdn" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert (docs.status_code, redoc.status_code) == (404, 404)


# --- the command ---


@contextmanager
def taken_port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as other:
        yield str(other.getsockname()[1])


@pytest.mark.parametrize(
    "words", [["--queue", "0"], ["--batch", "0"], ["--wait", "nan"], ["--max-mb", "0"],
              ["--max-mb", "9999"], ["--min-confidence", "2"], ["--checkpoint", "no-such-network"],
              ["--port", "99999"]],
)  # fmt: skip
def test_wrong_options_end_in_one_sentence(words, capsys, monkeypatch, predictor):
    if words[0] == "--port":
        monkeypatch.setattr(server, "ExpressionPredictor", lambda *_, **__: predictor)
    assert server.main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1


def test_a_port_that_is_taken_is_named(capsys, monkeypatch, predictor):
    monkeypatch.setattr(server, "ExpressionPredictor", lambda *_, **__: predictor)
    with taken_port() as port:
        assert server.main(["--port", port]) == 2
    assert port in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(capsys, monkeypatch):
    # The command comes with `pip install .`, too, which does not bring fastapi
    monkeypatch.delitem(sys.modules, "expression.server_app")
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert server.main([]) == 2
    told = capsys.readouterr().err
    assert '".[server]"' in told and told.count("\n") == 1


def test_an_answer_does_not_wait_for_word_from_the_client():
    # A single client got 13 answers a second instead of 29: Nagle's algorithm, delayed ACKs
    with server.listen(Serving("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        accepted, _ = listening.accept()
        with client, accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# --- the container ---

ROOT = Path(server.__file__).resolve().parents[1]


def test_the_container_is_small_and_runs_as_nobody():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    stages = text.split("\nFROM ")
    last = stages[-1]
    assert ".[server]" in text and "torch" not in text and "gradio" not in text
    assert "slim" in last.splitlines()[0] and "pip install" not in last
    assert last.index("USER ") < last.index("ENTRYPOINT") and "USER root" not in last
    assert "/health" in last[last.index("HEALTHCHECK") :]


def test_the_container_gets_all_that_the_wheel_is_made_of():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignored[0] == "*", "what is not named comes into the image: data, results, .git"
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("COPY ")]
    copied = [word for line in lines if "--from" not in line for word in line.split()[1:-1]]
    for name in copied:
        assert f"!{name.rstrip('/')}" in ignored and list(ROOT.glob(name)), name
    wanted = {"pyproject.toml", "README.md", "LICENSE", "expression", "lab", "checkpoints"}
    assert wanted <= {name.rstrip("/") for name in copied}
    needed = {path.name for path in ROOT.glob("*.py")} - {"predict.py"}
    assert needed <= {path.name for name in copied for path in ROOT.glob(name)}
