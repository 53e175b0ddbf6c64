"""The demo as other machines see it: by name instead of localhost, https, a password, no camera.

Every server listens on this machine alone; a rule of the browser gives it another name.
"""

import shutil
import ssl

import httpx
import pytest
from demo_page import SERVED, opened, until

from expression.checkpoint import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.slow
NAME = "phone.test"
ELSEWHERE = f"--host-resolver-rules=MAP {NAME} 127.0.0.1"
FAKE_CAMERA = "--use-fake-device-for-media-stream"
ALLOWED = "--use-fake-ui-for-media-stream"
PASSWORD = "a word"


@pytest.fixture(scope="module")
def served(run_demo, served_folder, tmp_path_factory):
    """(address, log) of a demo that answers by a second name too."""
    uploads = tmp_path_factory.mktemp("named") / "uploads"
    uploads.mkdir()
    with run_demo(served_folder, uploads, "--allow-host", NAME) as server:
        yield server


@pytest.fixture(scope="module")
def secured(run_demo, served_folder, tmp_path_factory):
    """(address, log) of a demo with a certificate of its own and a password."""
    uploads = tmp_path_factory.mktemp("secured") / "uploads"
    uploads.mkdir()
    options = ["--self-signed", "--password", PASSWORD, "--allow-host", NAME]
    with run_demo(served_folder, uploads, *options) as server:
        yield server


def ask_for_camera(page, tab="Mirror"):
    page.get_by_role("tab", name=tab).click()
    page.get_by_text("Click to Access Webcam").locator("visible=true").first.click()


def camera_words(page):
    """What the page says of the camera; one message, and no other beside it."""
    note = page.locator(".camera-note:visible")
    until(page, lambda: note.count() == 1 and note.inner_text(), note.all_inner_texts)
    page.wait_for_timeout(500)
    assert page.get_by_test_id("toast-body").count() == 0
    return note.inner_text()


def test_without_https_another_machine_is_told_why_it_gets_no_camera(chromium, served):
    with chromium(ELSEWHERE, FAKE_CAMERA, ALLOWED) as browser, browser.new_context() as context:
        page = opened(context, served[0].replace("127.0.0.1", NAME))
        ask_for_camera(page)
        words = camera_words(page)
        assert "https" in words and "--self-signed" in words


def log_in(page, address, password):
    page.goto(address)
    page.get_by_label("username").fill("guest")
    page.get_by_label("password").fill(password)
    page.get_by_role("button", name="Login").click()


def test_by_https_and_with_the_password_another_machine_gets_its_camera(chromium, secured):
    flags = ELSEWHERE, FAKE_CAMERA, ALLOWED
    with (
        chromium(*flags) as browser,
        browser.new_context(ignore_https_errors=True, permissions=["camera"]) as context,
    ):
        page, address = context.new_page(), secured[0].replace("127.0.0.1", NAME)
        log_in(page, address, "another word")
        page.wait_for_timeout(1000)
        assert page.get_by_role("tab", name="Mirror").count() == 0
        log_in(page, address, PASSWORD)
        page.get_by_role("tab", name="Mirror").wait_for(timeout=60_000)
        ask_for_camera(page)
        page.wait_for_function(
            "() => [...document.querySelectorAll('video')].some(v => v.videoWidth > 0)"
        )
        assert page.locator(".camera-note:visible").count() == 0


def test_without_the_password_nothing_is_answered(secured):
    address, log = secured
    host, port = address.removeprefix("https://").split(":")
    trust = ssl.create_default_context(cadata=ssl.get_server_certificate((host, int(port))))
    with httpx.Client(verify=trust, base_url=address) as stranger:  # the address is in it
        for path in ("/config", "/gradio_api/info"):
            assert stranger.get(path).status_code == 401, path
        asked = stranger.post("/gradio_api/call/predict", json={"data": [None, "x"]})
        assert asked.status_code == 401
        sent = stranger.post("/gradio_api/upload", files={"files": b"a picture"})
        assert sent.status_code == 401
    assert PASSWORD not in log.read_text()


@pytest.mark.parametrize(
    "flags, told", [([FAKE_CAMERA], "refused"), ([], "No camera was found")], ids=["denied", "none"]
)
@pytest.mark.parametrize("tab", ["Mirror", "Photo"])
def test_a_camera_that_does_not_start_is_one_sentence(flags, told, tab, chromium, served):
    # It was silence: the button stayed, and nothing happened
    with chromium(*flags) as browser, browser.new_context() as context:
        page = opened(context, served[0])
        if tab == "Photo":
            page.get_by_label("webcam").or_(page.get_by_label("Capture from camera")).first.click()
        ask_for_camera(page, tab)
        assert told in camera_words(page)


def test_a_strangers_card_fetches_nothing_and_runs_nothing(
    browser, run_demo, served_folder, tmp_path
):
    weights, card = load_checkpoint(served_folder / f"{SERVED}.safetensors")
    picture = "http://p.test/a.png"
    strange = f"![x]({picture}) <img src={picture}> $$ <img src={picture}> $$"
    card |= {"system": strange, "crop": strange, "data": {"name": strange, "fingerprint": "0"}}
    card["class_names"] = [f"{name} <img src={picture}>" for name in card["class_names"]]
    shutil.copy(served_folder / f"{SERVED}.onnx", tmp_path / "strange.onnx")
    save_checkpoint(tmp_path / "strange.safetensors", weights, card)
    (tmp_path / "uploads").mkdir()
    with run_demo(tmp_path, tmp_path / "uploads") as (address, _), browser.new_context() as context:
        asked = []
        context.on("request", lambda request: asked.append(request.url))
        page = opened(context, address)
        page.get_by_role("button", name="Details").click()
        page.locator("button[data-example]").first.click()
        page.locator(".answer .face, .answer .told").first.wait_for()
        page.get_by_text(f"![x]({picture})").first.wait_for()  # told as it is
        page.wait_for_timeout(500)
        assert [url for url in asked if "p.test" in url] == []
        assert page.locator("img[src*='p.test']").count() == 0
