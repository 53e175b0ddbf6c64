"""What answers sends nothing: neither its own code nor the packages that it loads."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import socket, sys

def refuse(*given, **named):
    print("asked for", given)
    raise OSError("no network here")

socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from expression.predictor import ExpressionPredictor
assert ExpressionPredictor().find(sys.argv[1])
"""


def test_an_answer_asks_for_no_network_and_leaves_no_file(tmp_path):
    # onnxruntime 1.31 looked for Microsoft's server when it was imported, and kept a file `.ses`
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment |= {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    picture = ROOT / "expression" / "app" / "example_pictures" / "portrait.jpg"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(picture)], cwd=tmp_path, env=environment,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout == "" and list(tmp_path.iterdir()) == []


def test_reports_are_off_before_onnxruntime_is_imported():
    program = "import sys, os, expression; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; print('onnxruntime' in sys.modules)"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["1", "False"]
