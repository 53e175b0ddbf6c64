"""The benchmark of several processes: two of them train, are timed, and end with the parent."""

import json

import pytest

from benchmarks import harness, processes
from benchmarks.loop import Case

pytestmark = pytest.mark.slow
SMALL = Case("TinyVGG, 64 px", "tinyvgg", 64, 3, 8, {"hidden_channels": 4})


def test_two_processes_are_timed_together_and_end_when_no_more_is_wanted():
    task = {"way": "two", "case": SMALL.name, "pictures": 128, "processes": 2, "threads": 1}
    rows = harness.child_rows("processes", task)
    rates = [next(rows)["rate"] for _ in range(2)]
    rows.close()  # waits for both; raises where one of them is stuck or failed
    assert all(rate > 0 for rate in rates)


def test_an_exchange_is_timed_for_every_size():
    task = {"way": "exchange", "processes": 2, "threads": 1, "rounds": 1}
    found = list(harness.child_rows("processes", task))
    assert [row["bytes"] for row in found] == list(processes.SIZES)
    assert found[0]["ms"][0] < found[-1]["ms"][0]


def test_tables_tell_the_median_and_its_share_of_the_plain_loop():
    def row(way, rates):
        return {"network": "A", "parameters": 10, "batch_size": 8, "way": way, "rates": rates}

    told = {"rows": [row("plain", [100.0, 200.0]), row("two", [150.0, 400.0])],
            "exchange": [{"bytes": 16, "ms": [0.5]}]}  # fmt: skip
    text = processes.table(told)
    assert "1.75 (1.50–2.00)" in text and "275 (150–400)" in text
    assert "0.50" in processes.exchange_table(json.loads(json.dumps(told)))
