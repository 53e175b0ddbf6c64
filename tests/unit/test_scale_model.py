"""The model of docs/scale.md against figures that can be worked out by hand."""

import pytest

from benchmarks import scale_model
from benchmarks.scale_model import Assumed, Link, fitted, predicted, step_seconds


def test_a_ring_sends_each_byte_twice_at_most():
    link = Link(bandwidth=1e6, latency=0.001)
    assert link.exchange(1e6, 1) == 0.0
    assert link.exchange(1e6, 2) == pytest.approx(0.001 + 1.0)
    assert link.exchange(1e6, 5) == pytest.approx(0.004 + 1.6)


def test_the_link_is_the_one_that_was_measured():
    # 16 bytes take the latency alone; the rest of a large tensor's time is its bytes
    measured = [{"bytes": 16, "ms": [2.0, 1.0, 3.0]}, {"bytes": 8_000_016, "ms": [10.0, 12.0, 9.0]}]
    link = fitted(measured)
    assert link.latency == pytest.approx(0.002)
    assert link.bandwidth == pytest.approx(8_000_000 / 0.008)


def test_two_processes_halve_the_computing_and_pay_for_the_exchange():
    free = Link(bandwidth=float("inf"), latency=0.0)
    assert predicted(100.0, 1_000_000, 128, free) == pytest.approx(200.0)
    # 64 pictures in 0.64 s, gradients of 4 MB in 0.36 s: a batch of 128 in one second
    assert predicted(100.0, 1_000_000, 128, Link(4e6 / 0.36, 0.0)) == pytest.approx(128, rel=1e-4)


def test_the_way_between_machines_is_paid_only_by_several():
    slow = Assumed(between=Link(1e3, 1.0))
    inside, across = (step_seconds("ResNet9, 48 px", gpus, slow)[1] for gpus in (8, 16))
    assert inside < 0.01 and across > 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", scale_model.PARAMETERS)
def test_parameters_and_operations_are_those_of_the_network(name):
    parameters, operations = scale_model.counted(name)
    assert parameters == scale_model.PARAMETERS[name]
    assert operations == pytest.approx(scale_model.STEP_FLOP[name], rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(12.3, "12 s"), (180, "3 min"), (3600 * 5, "5 h"), (86_400 * 4, "4 days")],
)
def test_durations_read_well(seconds, words):
    assert scale_model.duration(seconds) == words


def test_labelling_costs_what_each_core_takes_and_what_the_others_cost_it():
    told = scale_model.Labelling(seconds=0.036, kept=0.5, row=100.0)
    row = scale_model.labelling_table(told).splitlines()[2].split(" | ")
    # A million pictures: 36,000 s of one core alone, twice that beside others; 200 kB to read each
    assert row[:3] == ["| 10⁶", "20", "75 min"]
    assert row[4] == "200 GB" and row[6] == "150 MB" and row[7] == "0.8 |"


def test_what_labelling_measured_is_read_by_its_names():
    def row(name, rates):
        return {"name": name, "pictures_per_second": rates, "bytes_written": 90.0}

    rows = [row("Ray, 2 workers", [80.0, 30.0]), row("Ray, 1 worker", [50.0, 25.0]), row("x", [1])]
    told = scale_model.measured_labelling({"rows": rows})
    assert (told.seconds, told.row) == (1 / 37.5, 90.0)
    assert told.kept == pytest.approx((1.6 + 1.2) / 2 / 2)
