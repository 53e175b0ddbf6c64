"""The server for programs as it is run: a process of its own, real networks, twenty clients.

What fakes cannot show: that uvicorn stops as it should, that real answers are those of the
predictor, that nothing is left on the disk, and that it starts without gradio.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from benchmarks import report, server
from benchmarks.server_clients import Reply, load, running_server
from expression import server_app
from expression.face_prediction import FacePrediction
from expression.predictor import ExpressionPredictor

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pictures():
    return server.drawn_pictures(12)


def asked(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return answer.read().decode()


def test_an_answer_of_another_picture_is_counted_as_mixed_up():
    # A count that cannot be anything but 0 would prove nothing
    faces = [[FacePrediction((k, 0, 40, 40), {"happy": 0.75, "sad": 0.25})] for k in range(2)]
    told = [{"faces": [server_app.answer_entry(face) for face in one]} for one in faces]
    doubted = json.loads(json.dumps(told[0]).replace("0.75", "0.76"))
    none = {"faces": []}
    replies = [
        Reply(0, 200, told[0], 0.1), Reply(1, 200, told[1], 0.1), Reply(0, 200, told[1], 0.1),
        Reply(0, 200, doubted, 0.1), Reply(1, 200, none, 0.1), Reply(0, 429, None, 0.1),
        Reply(1, 0, None, 0.1),
    ]  # fmt: skip
    assert server.judged(replies, faces) == {"answers": 5, "lost": 2, "mixed_up": 3}


def test_twenty_clients_lose_nothing_and_mix_up_nothing(pictures, tmp_path, monkeypatch):
    right = ExpressionPredictor().find_batch(pictures)
    assert all(len(faces) == 1 for faces in right)
    assert len({faces[0].box for faces in right}) == len(pictures)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with running_server() as (port, _):
        replies = load(port, [*pictures, b"no picture"], 20, 5)
        broken = [reply for reply in replies if reply.picture == len(pictures)]
        assert broken and {reply.status for reply in broken} == {422}
        told = server.judged([reply for reply in replies if reply not in broken], right)
        assert told["answers"] >= 20 and told["lost"] == told["mixed_up"] == 0
        assert json.loads(asked(port, "/health"))["ready"] is True
        metrics = asked(port, "/metrics")
        assert f'outcome="answered"}} {told["answers"]:.1f}' in metrics
        assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="no SIGTERM")
def test_a_stop_answers_what_was_taken_in_and_ends_with_0(pictures):
    with running_server() as (port, process):
        replies = []
        # Each sends one picture; the stop comes while they wait
        clients = threading.Thread(target=lambda: replies.extend(load(port, pictures, 12, 0.01)))
        clients.start()
        deadline = time.monotonic() + 20
        while "expression_batch_pictures_count 0.0" in asked(port, "/metrics"):
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGTERM)
        clients.join(60)
        assert [reply.status for reply in replies] == [200] * 12
        assert process.wait(60) == 0 and process.stdout.read() == ""


def test_it_needs_no_gradio():
    program = (
        "import sys\n"
        "sys.modules['gradio'] = None\n"
        "import expression.server_app, expression.server\n"
        "print(sorted({'torch', 'lab', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr[-1000:]


def test_the_page_says_what_was_measured():
    about = {"settings": {"pictures": 48, "seconds": 10.0, "rounds": 2, "batch": 16, "wanted": 0.9}}
    about |= {
        "versions": {"torch": "2"},
        "date": "today",
        "machine": {"device": "one", "threads": 1},
    }
    served = {
        "way": "server, 200", "clients": 200, "rates": [44.0, 46.0], "processor": [21.0, 22.0],
        "ratios": [0.91, 0.97], "of_one": [1.5, 1.7], "taken": [3.0, 4.0],
        "milliseconds": {"p50": 4000.0, "p95": 4500.0, "p99": 4700.0},
        "answers": 901, "lost": 0, "mixed_up": 0,
    }  # fmt: skip
    bare = {"way": "find_batch, 2 threads", "rates": [47.0, 48.0], "processor": [20.0, 21.0]}
    page = report.SECTIONS["server"](about | {"rows": [bare, served]})
    row = next(line for line in page.splitlines() if line.startswith("| server, 200 clients"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:4] == ["0.94 (0.91–0.97)", "1.60 (1.50–1.70)"]
    assert cells[5:] == ["3.5 (3.0–4.0)", "4,000", "4,500", "4,700", "901", "0", "0"]
