"""The demo, as programs use it: gradio_client, plain HTTP, a second start on a taken port.

The face is the astronaut's of scikit-image, which lies inside that package: no download. The
page's tabs have files of their own.
"""

import csv
import io
import json
import shutil
from pathlib import Path

import httpx
import pytest
from demo_page import SERVED
from PIL import Image

import demo

pytestmark = pytest.mark.slow


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
