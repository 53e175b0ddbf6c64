"""Labelling without Ray: what is in the results, and that each picture is there exactly once."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from PIL import Image

from expression.app.examples import EXAMPLES
from expression.bulk import cluster, command
from expression.bulk.label import Pace, in_this_process, label
from expression.bulk.results import Results
from expression.bulk.sources import Source
from expression.bulk.worker import Settings, WorkFailure
from expression.cli import main
from expression.extras import install_command
from expression.predictor import ExpressionPredictor

SMALL = Settings("expression_small", whole=True)  # no face is searched: fast
PACE = Pace(chunk=3, part=4, wave=10)


@pytest.fixture
def photos(tmp_path):
    """Ten pictures of 8 × 8, one of them broken."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(9):
        Image.new("L", (8, 8), 20 * k).save(folder / f"{k}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def rows(out):
    return ds.dataset(f"{out}/faces").to_table().to_pylist()


def sources(out):
    return sorted(Path(row["source"]).name for row in rows(out))


def run(photos, out, settings=SMALL, engine=in_this_process, pace=PACE):
    return label(Source([str(photos)]), str(out), settings, engine, pace)


def every(photos):
    return sorted(path.name for path in photos.iterdir())


# --- what is in the results ---


def test_answers_are_those_of_the_predictor(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(EXAMPLES / "group.jpg", folder)
    Image.new("RGB", (60, 60)).save(folder / "nobody.png")
    (folder / "broken.png").write_bytes(b"no picture")
    counts = run(folder, tmp_path / "out", Settings())
    predictor = ExpressionPredictor()
    found = {}
    for row in rows(tmp_path / "out"):
        found.setdefault(Path(row["source"]).name, []).append(row)
    faces = predictor.find(folder / "group.jpg")
    assert len(found["group.jpg"]) == len(faces) > 1
    for number, (row, face) in enumerate(zip(found["group.jpg"], faces, strict=True), 1):
        assert (row["x"], row["y"], row["width"], row["height"]) == face.box
        assert (row["face"], row["label"], row["sure"]) == (number, face.label, face.sure)
        assert row["score"] == pytest.approx(face.score) and row["seconds"] is None
        probs = {name: row[name] for name in predictor.class_names}
        assert probs == pytest.approx(face.probs, abs=1e-5)
        assert row["model_sha256"] in (predictor.path.parent.parent / "weights.sha256").read_text()
    (nobody,), (broken,) = found["nobody.png"], found["broken.png"]
    assert (nobody["face"], nobody["label"], nobody["error"]) == (0, None, None)
    assert broken["face"] == 0 and "broken.png" in broken["error"]
    assert (counts.pictures, counts.faces, counts.without, counts.errors) == (3, len(faces), 1, 1)


def test_the_manifest_says_what_the_folder_holds(photos, tmp_path):
    run(photos, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert found["sources"] == [str(photos)] and found["settings"]["whole"] is True
    assert len(found["model"]["sha256"]) == 64 and found["pictures"] == 10
    parts = sorted(path.name for path in (tmp_path / "out" / "faces").iterdir())
    assert found["parts"] == parts and len(parts) > 1


# --- once, and only once ---


def test_a_second_run_labels_only_what_is_new(photos, tmp_path):
    run(photos, tmp_path / "out")
    assert run(photos, tmp_path / "out").pictures == 0
    Image.new("L", (8, 8)).save(photos / "00-first.png")  # in the middle of the old ones
    shutil.copy(photos / "0.png", photos / "5b.png")  # the same content is another picture
    assert run(photos, tmp_path / "out").pictures == 2
    assert sources(tmp_path / "out") == every(photos)


class Killed(BaseException):
    """As a kill: nothing is written any more."""


@pytest.mark.parametrize("after", range(1, 4))
def test_a_run_that_is_killed_goes_on_where_it_stood(photos, tmp_path, monkeypatch, after):
    put, names = Results.put, []

    def killed(results, name, content):
        names.append(name)
        if len(names) > after:
            half = tmp_path / "out" / "faces" / ".part-0123456789abcdef.77.tmp.parquet"
            half.write_bytes(content[:20])
            raise Killed
        put(results, name, content)

    monkeypatch.setattr(Results, "put", killed)
    with pytest.raises(Killed):
        run(photos, tmp_path / "out")
    monkeypatch.undo()
    done = len(rows(tmp_path / "out")) if after > 1 else 0
    counts = run(photos, tmp_path / "out")
    assert (counts.before, counts.pictures) == (done, 10 - done)
    assert sources(tmp_path / "out") == every(photos)
    assert not list((tmp_path / "out" / "faces").glob(".*"))


def stopped(settings, chunks):
    yield from in_this_process(settings, chunks[:2])
    raise KeyboardInterrupt


def test_ctrl_c_keeps_what_was_answered(photos, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(photos, tmp_path / "out", engine=stopped)
    assert len(rows(tmp_path / "out")) == 2 * PACE.chunk
    assert run(photos, tmp_path / "out").pictures == 10 - 2 * PACE.chunk
    assert sources(tmp_path / "out") == every(photos)


def twice(settings, chunks):
    """As a worker that died after its answer was on its way."""
    for table in in_this_process(settings, chunks):
        yield table
        yield table


def test_an_answer_that_comes_twice_counts_once(photos, tmp_path):
    run(photos, tmp_path / "out", engine=twice)
    assert sources(tmp_path / "out") == every(photos)


def dies_of(name, settings, chunks):
    """As workers that are ended by one picture, whenever it is opened."""
    yield from in_this_process(settings, [chunk for chunk in chunks if name not in chunk])


def test_a_picture_that_ends_workers_is_a_row_and_its_neighbours_are_answered(photos, tmp_path):
    run(photos, tmp_path / "out", engine=partial(dies_of, "4.png"))
    found = {Path(row["source"]).name: row for row in rows(tmp_path / "out")}
    assert sorted(found) == every(photos)
    told = {name for name, row in found.items() if row["error"]}
    assert told == {"4.png", "broken.jpg"} and "process" in found["4.png"]["error"]


def test_workers_that_always_die_end_the_run_and_blame_no_picture(photos, tmp_path):
    with pytest.raises(WorkFailure, match="memory"):
        run(photos, tmp_path / "out", engine=partial(dies_of, "photos"))
    assert not list((tmp_path / "out" / "faces").iterdir())


def another_checkpoint(settings, chunks):
    yield from in_this_process(replace(settings, checkpoint="expression"), chunks)


def test_a_worker_with_another_checkpoint_ends_the_run(photos, tmp_path):
    with pytest.raises(WorkFailure, match="not the checkpoint"):
        run(photos, tmp_path / "out", engine=another_checkpoint)


# --- one folder, one run ---


@pytest.mark.parametrize(
    ("settings", "differs"),
    [
        (replace(SMALL, checkpoint="expression"), "model.sha256"),
        (replace(SMALL, min_confidence=0.99), "settings.min_confidence"),
        (replace(SMALL, whole=False), "settings.whole"),
    ],
)
def test_another_model_or_setting_is_refused_with_what_differs(photos, tmp_path, settings, differs):
    run(photos, tmp_path / "out")
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*.*") if p.is_file()}
    with pytest.raises(ValueError, match=differs):
        run(photos, tmp_path / "out", settings)
    assert {p: p.read_bytes() for p in before} == before


def test_two_runs_at_once_do_not_write_into_one_folder(photos, tmp_path):
    def second(settings, chunks):
        with pytest.raises(ValueError, match="another run"):
            run(photos, tmp_path / "out")
        yield from in_this_process(settings, chunks)

    run(photos, tmp_path / "out", engine=second)
    assert sources(tmp_path / "out") == every(photos)


def test_a_part_that_is_not_whole_is_named(photos, tmp_path):
    run(photos, tmp_path / "out")
    part = min((tmp_path / "out" / "faces").iterdir())
    part.write_bytes(part.read_bytes()[:-30])
    with pytest.raises(ValueError, match=part.name):
        run(photos, tmp_path / "out")


def test_results_in_a_store_and_a_source_there(photos):
    fs = fsspec.filesystem("memory")
    fs.put(str(photos), "/b/photos", recursive=True)
    try:
        counts = run("memory://b/photos", "memory://b/out")
        assert counts.pictures == 10 and counts.errors == 1
        assert run("memory://b/photos", "memory://b/out").before == 10
        table = pa.concat_tables(
            [ds.dataset(p, filesystem=fs).to_table() for p in fs.ls("/b/out/faces", detail=False)]
        )
        assert sorted(set(table["source"].to_pylist())) == sorted(
            f"memory:///b/photos/{name}" for name in every(photos)
        )
    finally:
        fs.store.clear()
        fs.pseudo_dirs[:] = [""]


# --- Ray's folder and environment ---


def test_folders_of_killed_runs_are_deleted_and_those_of_others_stay(tmp_path):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    dead, living = int(done.stdout), os.getpid()
    names = [f"expression-ray-{dead}-abc", f"expression-ray-{living}-abc", "expression-ray-x"]
    for name in names:
        (tmp_path / name / "deep").mkdir(parents=True)
    cluster.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Linux tells")
def test_waiting_for_processes_ends_when_they_do_and_not_before():
    # One that has ended stays in the list until its parent asks: waiting for that waits for ever
    before = cluster.descendants()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"])
    ours = cluster.descendants() - before
    assert ours == {child.pid}
    started = time.monotonic()
    cluster.wait_for_end(ours)
    assert 0.2 < time.monotonic() - started < 8
    child.wait()


def test_a_module_that_costs_seconds_is_not_found_by_what_ray_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    path = cluster.without("json", tmp_path / "quick")
    assert path.split(os.pathsep)[1:] == ["elsewhere"]
    done = subprocess.run([sys.executable, "-c", "import json"], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": path}, check=False)  # fmt: skip
    assert "not needed" in done.stderr


def test_ray_is_told_to_send_nothing_and_to_listen_here_alone_and_others_are_not(monkeypatch):
    class Ray:
        @staticmethod
        def init(**given):
            Ray.given, Ray.environment = given, dict(os.environ)

        shutdown = staticmethod(lambda: None)

    before = dict(os.environ)
    monkeypatch.setattr(cluster, "imported", lambda: Ray)
    monkeypatch.setattr(cluster, "quiet", lambda: None)
    with cluster.started(2, None) as workers:
        assert workers == 2 and Path(Ray.given["_temp_dir"]).is_dir()
    assert Ray.environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert Ray.environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert len(Ray.environment["RAY_AUTH_TOKEN"]) == 64
    assert not Ray.given["include_dashboard"] and Ray.given["address"] == "local"
    assert not Path(Ray.given["_temp_dir"]).exists() and dict(os.environ) == before
    with cluster.started(2, "auto"):
        assert Ray.given["address"] == "auto" and "_temp_dir" not in Ray.given
    assert Ray.environment.get("RAY_AUTH_TOKEN") == before.get("RAY_AUTH_TOKEN")


def test_where_ray_does_not_start_it_is_tried_again_and_told_in_one_sentence(monkeypatch):
    tried = []

    class Ray:
        @staticmethod
        def init(**given):
            tried.append(given)
            raise RuntimeError("timed out\nlong advice")

        shutdown = staticmethod(lambda: None)

    monkeypatch.setattr(cluster, "imported", lambda: Ray)
    with pytest.raises(ConnectionError, match=r"^Ray does not start .*\(timed out\)$"):
        with cluster.started(1, None):
            pass
    assert len(tried) == cluster.TRIES


# --- the command ---


def test_without_ray_the_command_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("expression.bulk.cluster.find_spec", lambda name: None)
    assert main(["label", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert install_command("scale") in line
    assert not (tmp_path / "out").exists()


def test_a_file_called_label_is_still_a_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (48, 48)).save("label", "PNG")
    assert main(["./label", "--whole", "--checkpoint", "expression_small"]) == 0
    assert "label" in capsys.readouterr().out


@pytest.mark.parametrize(
    "option", [["--workers", "0"], ["--chunk", "0"], ["--part", "-1"], ["--min-confidence", "1"]]
)
def test_options_out_of_range_are_refused_before_ray_starts(tmp_path, capsys, monkeypatch, option):
    monkeypatch.setattr(command, "run", None)
    assert main(["label", str(tmp_path), "--out", "out", *option]) == 2
    assert option[0] in capsys.readouterr().err


def test_the_other_commands_need_nothing_of_the_extra(tmp_path):
    program = (
        "import sys\n"
        "for name in ('ray', 'pyarrow', 'fsspec', 'pandas'): sys.modules[name] = None\n"
        "from expression.cli import main\n"
        "print(main(['--list']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          cwd=Path(__file__).parents[2], timeout=120, check=False)  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0", done.stderr[-500:]
