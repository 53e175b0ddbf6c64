"""FER+'s file by its address: fetched once, bounded, and never something else in its place."""

import hashlib
import http.server
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.datasets import ferplus, ferplus_file

HEADER = ",".join(["Usage", "Image name", *ferplus.VOTE_NAMES])
CONTENT = f"{HEADER}\nTraining,fer0000000.png,{','.join(['1'] * 10)}\n".encode()


class _Files(http.server.BaseHTTPRequestHandler):
    """/votes.csv, /page.csv (another thing) and /long.csv; as text, as GitHub gives them."""

    def do_GET(self) -> None:
        body = {"/votes.csv": CONTENT, "/page.csv": b"<html>sign in</html>",
                "/long.csv": CONTENT * 50}.get(self.path, b"")  # fmt: skip
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    loopback: Callable[..., http.server.ThreadingHTTPServer],
) -> http.server.ThreadingHTTPServer:  # fmt: skip
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return loopback(_Files)


def test_an_address_is_fetched_once(
    server: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    address = f"http://127.0.0.1:{server.server_port}/votes.csv"
    said: list[str] = []
    path = ferplus_file.votes_file(address, said.append)
    assert path.read_bytes() == CONTENT and path.is_relative_to(tmp_path / "cache")
    server.shutdown()
    server.server_close()
    assert ferplus_file.votes_file(address, said.append) == path
    told = hashlib.sha256(CONTENT).hexdigest()
    assert all(told in line for line in said) and len(said) == 2


@pytest.mark.parametrize(
    ("name", "told"), [("page.csv", "Image name"), ("long.csv", "larger"), ("none.csv", "404")]
)
def test_another_file_is_refused_and_not_kept(
    server: http.server.ThreadingHTTPServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    told: str,
) -> None:
    # Kept, a page that asks to sign in would be read as votes in every later run.
    monkeypatch.setattr(ferplus_file, "MAX_BYTES", 1000)
    with pytest.raises((OSError, ValueError), match=told) as raised:
        ferplus_file.votes_file(f"http://127.0.0.1:{server.server_port}/{name}")
    assert ferplus_file.FERPLUS_ADDRESS in str(raised.value)
    assert not list((tmp_path / "cache").rglob("*.csv"))


def test_without_a_network_a_path_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="path of a copy"):
        ferplus_file.votes_file("http://127.0.0.1:9/fer2013new.csv")
    assert ferplus_file.votes_file("mine.csv") == Path("mine.csv")
