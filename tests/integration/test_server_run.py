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

from benchmarks.server import drawn_pictures, judged
from benchmarks.server_clients import load, running_server
from expression.predictor import ExpressionPredictor

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pictures():
    return drawn_pictures(12)


def asked(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return answer.read().decode()


def test_twenty_clients_lose_nothing_and_mix_up_nothing(pictures, tmp_path, monkeypatch):
    right = ExpressionPredictor().find_batch(pictures)
    assert all(len(faces) == 1 for faces in right)
    assert len({faces[0].box for faces in right}) == len(pictures)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with running_server() as (port, _):
        replies = load(port, [*pictures, b"no picture"], 20, 5)
        broken = [reply for reply in replies if reply.picture == len(pictures)]
        assert broken and {reply.status for reply in broken} == {422}
        told = judged([reply for reply in replies if reply not in broken], right)
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
