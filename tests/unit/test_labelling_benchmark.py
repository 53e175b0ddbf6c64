"""benchmarks/labelling.py: what it counts; in scale.json it writes its own key alone."""

import json
from contextlib import contextmanager

import pytest

from benchmarks import labelling, report
from expression.bulk.label import in_this_process


@pytest.fixture
def without_ray(monkeypatch):
    @contextmanager
    def started(workers, address):
        yield workers

    monkeypatch.setattr(labelling, "started", started)
    monkeypatch.setattr(labelling, "on_ray", lambda workers: in_this_process)
    monkeypatch.setattr(labelling.harness, "child_rows", lambda _, count: labelling.listed(count))


def test_it_writes_its_own_key_and_its_section(without_ray, tmp_path, capsys):
    out = tmp_path / "scale.json"
    out.write_text('{"shards": {"rows": [1]}}')
    words = ["--pictures", "20", "--rounds", "1", "--names", "2000", "--workers", "2"]
    assert labelling.main([*words, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["shards"] == {"rows": [1]}
    told = found["labelling"]
    assert told["listing"]["names"] == 2000 and [row["missing"] for row in told["rows"]] == [0] * 3
    assert all(row["pictures_per_second"][0] > 0 for row in told["rows"])
    written = [row["bytes_written"] for row in told["rows"]]
    assert 100 < written[0] == written[1] < 10_000 and written[2] == 0
    section = report.scale_section({"labelling": told})
    assert "Ray, 2 workers" in section and "2,000 names" in section


def test_answers_that_do_not_come_are_counted(tmp_path):
    names = labelling.write_files(tmp_path / "photos", 20)
    (tmp_path / "photos" / "0" / "000000.jpg").unlink()
    assert labelling.run(in_this_process, tmp_path, names).missing == 1
