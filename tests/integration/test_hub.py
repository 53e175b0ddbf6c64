"""The hub: noticed in seconds when it is out of reach, asked once, and quoted when it refuses.

Each test runs Python anew, since the libraries read their settings once, when they are imported.
"""

import http.server
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from datasets import DatasetDict

import experiments
from lab import datasets
from lab.datasets import synthetic

ROOT = Path(experiments.__file__).parent


@pytest.fixture(scope="module")
def faces() -> DatasetDict:
    return synthetic.load(train=21, validation=9, test=9, size=32)


def child(program: str, home: Path, endpoint: str, **extra: str) -> subprocess.CompletedProcess:
    """Run Python with a hub and a cache of its own."""
    environment = {k: v for k, v in os.environ.items() if "OFFLINE" not in k and k != "HF_TOKEN"}
    environment |= {
        "HF_HOME": str(home),
        "HF_ENDPOINT": endpoint,
        "NO_PROXY": "*",
        "HF_HUB_DISABLE_XET": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        **extra,
    }
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_no_network_is_noticed_in_seconds(tmp_path: Path) -> None:
    # load_dataset alone tries again and again; a closed port and a silent host must both be quick.
    program = (
        "import time; from lab.datasets import hub\nstart = time.time()\n"
        "try: hub.load('some/faces', timeout=2)\n"
        "except hub.HubUnavailable as e: print(e, '|', time.time() - start)"
    )
    done = child(program, tmp_path, "http://127.0.0.1:9")
    message, seconds = done.stdout.rsplit("|", 1)
    assert float(seconds) < 6, done.stdout
    for told in ("some/faces", "http://127.0.0.1:9", str(tmp_path), "HF_HOME"):
        assert told in message


class _Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as `load_dataset` asks for: one repository, read only."""

    files: dict[str, bytes] = {}
    commit = "0123456789abcdef0123456789abcdef01234567"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        paths = (
            json.loads(asked)["paths"]
            if asked.startswith("{")
            else [unquote(p.split("=")[1]) for p in asked.split("&") if p.startswith("paths=")]
        )
        self.answer([e for e in self.entries() if e["path"] in paths])

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        name = path.split(f"/resolve/{self.commit}/")[-1].split("/resolve/main/")[-1]
        if "/resolve/" in path:
            self.answer(self.files.get(name))
        elif "/tree/" in path:
            inside = path.split(self.commit)[-1].strip("/")
            self.answer(
                [
                    e
                    for e in self.entries()
                    if str(Path(e["path"]).parent) == (inside or ".")
                    or "recursive=True" in self.path
                ]
            )
        elif path.startswith("/api/datasets/some/faces"):
            self.answer(
                {
                    "id": "some/faces",
                    "sha": self.commit,
                    "private": False,
                    "tags": [],
                    "downloads": 0,
                    "siblings": [{"rfilename": n} for n in self.files],
                }
            )
        else:
            self.answer(None)

    def entries(self) -> list[dict]:
        folders = {str(Path(n).parent) for n in self.files} - {"."}
        return [{"type": "directory", "path": f, "oid": "0" * 40, "size": 0} for f in folders] + [
            {"type": "file", "path": n, "oid": "0" * 40, "size": len(b)}
            for n, b in self.files.items()
        ]

    def answer(self, body: object) -> None:
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))  # of a stream
        part = part if isinstance(body, bytes) else None
        self.send_response(404 if body is None else 206 if part else 200)
        if body is None:
            self.send_header("X-Error-Code", "EntryNotFound")
            body = {}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        if part:
            first, end = int(part[1]), min(int(part[2]) + 1, len(data))
            self.send_header("Content-Range", f"bytes {first}-{end - 1}/{len(data)}")
            data = data[first:end]
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("ETag", f'"{hash(data) & 0xFFFFFFFF:08x}"')
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def stand_in(
    faces: DatasetDict, tmp_path: Path, loopback: Callable[..., http.server.ThreadingHTTPServer]
) -> http.server.ThreadingHTTPServer:
    folder = tmp_path / "served"
    (folder / "data").mkdir(parents=True)
    for split, rows in faces.items():
        rows.to_parquet(str(folder / "data" / f"{split}-00000-of-00001.parquet"))
    _Hub.files = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*.parquet")}
    return loopback(_Hub)


def test_what_was_fetched_once_serves_without_a_network(
    faces: DatasetDict, stand_in: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    # The data set fetched yesterday must open on the train, from the cache, as the same data.
    # A misspelt name looks like a private one to the hub; the message must say what it answered.
    endpoint, home = f"http://127.0.0.1:{stand_in.server_port}", tmp_path / "home"
    load = "from lab import datasets; print('mark', datasets.fingerprint(datasets.load({!r})))"
    expected = f"mark {datasets.fingerprint(faces)}"
    fetched = child(load.format("some/faces") + f"\n{load.format('some/face')}", home, endpoint)
    assert expected in fetched.stdout, fetched.stderr[-3000:]
    assert "HubUnavailable" in fetched.stderr and "some/face " in fetched.stderr
    assert "404" in fetched.stderr, fetched.stderr[-600:]
    stand_in.shutdown()
    start = time.perf_counter()
    offline = child(load.format("some/faces"), home, endpoint, HF_HUB_OFFLINE="1")
    assert expected in offline.stdout, offline.stderr[-3000:]
    assert time.perf_counter() - start < 40


def test_a_hub_id_trains_as_data_and_as_further_data(
    stand_in: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    # Files are named after the data set alone: its owner would be a folder.
    endpoint, out = f"http://127.0.0.1:{stand_in.server_port}", tmp_path / "out"
    words = ["train", "tinyvgg", "--data", "some/faces", "--also", "some/faces", "--epochs", "1",
             "--size", "16", "--device", "cpu", "--out", str(out)]  # fmt: skip
    program = f"import experiments; experiments.main({words!r})"
    done = child(program, tmp_path / "home", endpoint)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("hub some/faces") == 2  # what was taken, for both
    assert (out / "checkpoints" / "tinyvgg-faces+faces.safetensors").is_file()


def test_a_hub_set_is_streamed_and_not_kept(
    faces: DatasetDict, stand_in: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    # A set larger than the disk must leave no copy in a cache
    endpoint, home = f"http://127.0.0.1:{stand_in.server_port}", tmp_path / "home"
    program = (
        "from pathlib import Path; from lab.streaming import read_streamed; import os\n"
        "root = os.getcwd(); os.chdir(os.environ['HF_HOME'])\n"
        "for name in ('some/faces', 'some/face'):\n"
        "    faces = read_streamed(name)\n"
        "    print('mark', faces.fingerprint, faces.name, len(list(faces.train_rows())))"
    )
    home.mkdir()
    done = child(program, home, endpoint, PYTHONPATH=str(ROOT))
    assert f"mark {datasets.fingerprint(faces)} faces 21" in done.stdout, done.stderr[-3000:]
    assert "HubUnavailable" in done.stderr and "some/face " in done.stderr
    assert not list(home.rglob("*.parquet")) and not list(home.rglob("*.arrow"))
