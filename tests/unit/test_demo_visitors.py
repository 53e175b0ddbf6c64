"""What strangers may do to the demo's server: names, uploads cut off, thousands of visits.

One server on this machine, in this process, with a page of two fields: no network is loaded.
"""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest

from benchmarks.harness import free_port
from expression.app import serving, uploads
from expression.app.components import CheckpointMenu
from expression.app.hosts import host_name
from expression.app.serving import Serving
from expression.app.uploads import AGE, sweep_folders, sweep_uploads, swept_uploads, upload_folder

SESSIONS = 3


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """(gradio's app, address, folder of uploads) of a page served as `demo.py` serves its own."""
    folder = tmp_path_factory.mktemp("uploads")
    port = free_port()
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        patch.setattr(serving, "SESSIONS", SESSIONS)
        patch.setattr(uploads, "EVERY", 0.05)
        with gr.Blocks(analytics_enabled=False) as blocks:
            name = gr.Textbox()
            gr.Button().click(lambda name: f"hello {name}", name, name, api_name="greet")
            menu = CheckpointMenu(["one", "two"])
            gr.Button().click(lambda name: f"chose {name}", menu, name, api_name="choose")
        settings = Serving(port=port).launch_settings(stack)
        app, address, _ = blocks.launch(**settings, quiet=True, prevent_thread_lock=True)
        yield app, address.rstrip("/"), folder
        blocks.close(verbose=False)


# --- names ---


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/info", "/gradio_api/upload"])
def test_a_page_whose_name_points_here_is_refused(path, page):
    # DNS rebinding: the browser takes this server for evil.test, and lets its scripts read it
    port = page[1].rsplit(":", 1)[1]
    for host in (
        f"evil.test:{port}",
        "localhost.evil.test",
        "127.0.0.1.evil.test",
        "",
        "192.0.2.7",
    ):
        answer = httpx.get(page[1] + path, headers={"Host": host})
        assert answer.status_code == 403 and "--allow-host" in answer.text, host


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
def test_this_machine_is_answered_whatever_port_a_tunnel_has(host, page):
    for port in ("", ":8080"):
        assert httpx.get(page[1], headers={"Host": host + port}).status_code == 200


def test_each_host_header_has_one_name_or_none():
    assert host_name("[2001:DB8::7]:80") == "2001:db8::7" and host_name("A.test.:80") == "a.test"
    for wrong in ("", ":80", "me@localhost", "localhost/x", "a b", "[::1", "localhost:80:80"):
        assert host_name(wrong) == "", wrong


OPEN = {"host": "0.0.0.0"}


@pytest.mark.parametrize(
    "settings, answered, refused",
    [
        ({}, ["localhost", "::1"], ["192.0.2.7", "box", "a.gradio.live", "evil.test", ""]),
        ({"names": ("Proxy.test",)}, ["proxy.test", "localhost"], ["box", "x.proxy.test"]),
        (OPEN, ["192.0.2.7", "2001:db8::7", "box", "box.local"], ["evil.test", "a.gradio.live"]),
        ({"share": True}, ["abc.gradio.live"], ["gradio.live.evil.test", "evilgradio.live"]),
        ({"host": "Lan.test"}, ["lan.test", "192.0.2.7"], ["evil.test"]),
    ],
)
def test_shown_to_others_it_answers_as_itself_only(settings, answered, refused, monkeypatch):
    monkeypatch.setattr(serving.socket, "gethostname", lambda: "Box")
    how = Serving(**settings)
    assert [name for name in answered if not how.answers_as(name)] == []
    assert [name for name in refused if how.answers_as(name)] == []


# --- what is sent ---


def test_a_network_that_is_not_in_the_menu_leaves_no_traceback_behind(page, capfd):
    # Strangers could fill the terminal of whoever runs the demo
    ended = []
    for name in ("two", "three"):
        call = f"{page[1]}/gradio_api/call/choose"
        event = httpx.post(call, json={"data": [name]}).json()["event_id"]
        ended.append(httpx.get(f"{call}/{event}").text)
    assert "complete" in ended[0] and "chose two" in ended[0] and "error" in ended[1]
    assert "Traceback" not in "".join(capfd.readouterr())


# --- uploads ---


def waited(true, seconds=10):
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


def test_an_upload_that_is_cut_off_is_swept_after_a_while(page):
    # gradio's delete_cache knows whole uploads only: these parts stayed for ever
    _, address, folder = page
    port = int(address.rsplit(":", 1)[1])
    whole = httpx.post(f"{address}/gradio_api/upload", files={"files": b"a picture"}).json()
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + b"a" * 70000
    )
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 9000000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as visitor:
        visitor.sendall(head.encode() + body)
        assert waited(lambda: [p for p in folder.iterdir() if p.is_file() and p.stat().st_size])
    (part,) = (path for path in folder.iterdir() if path.is_file())
    time.sleep(0.2)
    assert part.exists()  # it may be a slow one
    old = time.time() - AGE - 5
    os.utime(part, (old, old))
    assert waited(lambda: not part.exists()) and Path(whole[0]).exists()


def test_a_visitor_who_hangs_up_leaves_no_traceback(page):
    said = []
    handler = logging.Handler()
    handler.emit = said.append
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(handler)
    _, address, folder = page
    port = int(address.rsplit(":", 1)[1])
    before = set(folder.iterdir())
    try:
        with socket.create_connection(("127.0.0.1", port)) as visitor:
            visitor.sendall(
                f"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost:{port}\r\n"
                "Content-Length: 9000000\r\nContent-Type: multipart/form-data; boundary=x\r\n\r\n"
                '--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
                f"{'a' * 70000}".encode()
            )
            assert waited(lambda: set(folder.iterdir()) - before)
        time.sleep(0.5)
        assert httpx.get(f"{address}/config").status_code == 200
    finally:
        logger.removeHandler(handler)
    assert not said, said[0].getMessage()


def test_folders_of_killed_servers_are_swept_and_no_others(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone = tmp_path / f"expression-demo-{ended.pid}-abcdefg1" / "uploads"
    kept = [
        tmp_path / f"expression-demo-{os.getpid()}-abcdefg1",  # runs
        tmp_path / "gradio",  # of all other programs
        tmp_path / f"my-expression-demo-{ended.pid}-abcdefg1",
        tmp_path / "target",
    ]
    for folder in (gone, *kept):
        folder.mkdir(parents=True)
        (folder / "face.jpg").write_bytes(b"a")
    link = tmp_path / f"expression-demo-{ended.pid}-abcdefg2"
    link.symlink_to(kept[-1])
    assert sweep_folders(tmp_path) == 1 and not gone.parent.exists()
    assert all((folder / "face.jpg").exists() for folder in kept) and link.is_symlink()


def test_uploads_have_a_folder_of_their_own(tmp_path, monkeypatch):
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with upload_folder() as folder:
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder) and folder.parent == tmp_path
        (folder / "face.jpg").write_bytes(b"a")
        assert sweep_folders(tmp_path) == 0  # another server that starts now
    assert not list(tmp_path.iterdir()) and "GRADIO_TEMP_DIR" not in os.environ
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "mine"))
    with upload_folder() as folder:
        assert folder == tmp_path / "mine"


def test_only_unfinished_uploads_are_swept(tmp_path):
    old = time.time() - AGE - 5
    (tmp_path / "tmpfolder01").mkdir()
    kept = [
        tmp_path / "tmpfolder01" / "tmpabcdefg1",
        tmp_path / "notes.txt",
        tmp_path / "tmpnew_0001",
    ]
    for path in (*kept, tmp_path / "tmpold_0001"):
        path.write_bytes(b"a")
        os.utime(path, (old, old))
    os.utime(kept[-1])
    (tmp_path / "tmplink_001").symlink_to(kept[1])
    assert sweep_uploads(tmp_path) == 1 and sweep_uploads(tmp_path / "none") == 0
    assert all(path.exists() for path in (*kept, tmp_path / "tmplink_001"))


def test_what_an_earlier_run_left_is_swept_at_the_start(tmp_path):
    (tmp_path / "tmpold_0001").write_bytes(b"a")
    os.utime(tmp_path / "tmpold_0001", (0, 0))

    async def start():
        async with swept_uploads(SimpleNamespace(uploaded_file_dir=str(tmp_path))):
            for _ in range(200):
                await asyncio.sleep(0.01)
                if not list(tmp_path.iterdir()):
                    return True
        return False

    with ThreadPoolExecutor(1) as thread:  # a browser test may have left a loop in this one
        assert thread.submit(asyncio.run, start()).result()


# --- memory ---


def test_of_many_visitors_only_the_last_are_remembered(page):
    # Every call of a program is a session of its own, and gradio keeps 10,000 of 0.3 MB
    app, address, _ = page
    place = f"{address}/gradio_api/call/greet"
    for number in range(3 * SESSIONS):
        event = httpx.post(place, json={"data": [str(number)]}).json()["event_id"]
        assert f"hello {number}" in httpx.get(f"{place}/{event}", timeout=30).text
    assert 0 < len(app.state_holder.session_data) <= SESSIONS
