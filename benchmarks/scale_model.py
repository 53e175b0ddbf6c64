"""What the figures of `benchmarks/scale.json` say about more machines than they were measured on.

    python -m benchmarks.scale_model                  # the tables of docs/scale.md

A model, not a measurement. Training: a step computes, then exchanges the gradients, the two one
after the other; an exchange between N processes is a ring, in which each sends and receives
2 (N - 1) / N of the gradients (Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms").
`fitted` and `predicted` hold it against two processes of one machine. For GPUs, none of which was
measured, everything in `Assumed` is an assumption and stands in the page as one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks import harness, processes
from expression.terminal import escape_unprintable

__all__ = ["ASSUMED", "Assumed", "Link", "fitted", "predicted", "step_seconds", "training_table"]

PARAMETERS = {"ResNet9, 48 px": 1_866_215, "ResNet18, 112 px": 11_180_103}  # counted
STEP_FLOP = {"ResNet9, 48 px": 0.703e9, "ResNet18, 112 px": 2.850e9}  # counted: see `counted`
PIXELS = {"ResNet9, 48 px": 48 * 48, "ResNet18, 112 px": 112 * 112}  # bytes of a decoded picture
GPUS = (1, 8, 64)
EPOCHS = 20


@dataclass(frozen=True)
class Link:
    """A connection over which processes exchange: bytes a second, and seconds before the first."""

    bandwidth: float
    latency: float

    def exchange(self, size: float, processes: int) -> float:
        """Seconds in which a ring of processes adds up `size` bytes of each."""
        if processes == 1:
            return 0.0
        share = 2 * (processes - 1) / processes
        return (processes - 1) * self.latency + share * size / self.bandwidth


@dataclass(frozen=True)
class Assumed:
    """What was not measured."""

    flops: float = 15e12  # that a GPU reaches in training, per second
    batch: int = 256  # pictures of a GPU in a step
    machine: int = 8  # GPUs of a machine
    inside: Link = Link(200e9, 20e-6)  # between the GPUs of a machine
    between: Link = Link(3.1e9, 50e-6)  # between machines: 25 Gbit/s
    gpu_price: float = 2.0  # dollars an hour
    core_price: float = 0.04  # dollars an hour, of a core without a GPU
    picture: float = 200e3  # bytes of a photo's file
    faces: float = 1.5  # rows that a photo gets


ASSUMED = Assumed()


def counted(case_name: str) -> tuple[int, float]:
    """(parameters, floating-point operations of forward and backward for one picture), counted by
    torch on the network itself."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.loop import CASES, make_network

    case = next(case for case in CASES if case.name == case_name)
    model, _ = make_network(case, torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, case.channels, case.size, case.size)).sum().backward()
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() / 2


# --- held against what was measured ---


def fitted(exchange: Sequence[Mapping[str, Any]]) -> Link:
    """The link that two processes' exchanges measure: what 16 bytes take, and the largest."""
    times = {row["bytes"]: median(row["ms"]) / 1000 for row in exchange}
    small, large = min(times), max(times)
    return Link((large - small) / (times[large] - times[small]), times[small])


def predicted(rate: float, parameters: int, batch: int, link: Link, processes: int = 2) -> float:
    """Pictures a second of several processes, from the `rate` of one; each batch is shared.

    Two sums are exchanged in a step: the loss, and the gradients in float32.
    """
    seconds = batch / processes / rate
    seconds += link.exchange(16, processes) + link.exchange(4 * parameters, processes)
    return batch / seconds


# --- more GPUs ---


def step_seconds(name: str, gpus: int, assumed: Assumed = ASSUMED) -> tuple[float, float]:
    """(seconds of computing, seconds of exchange) of one step on so many GPUs."""
    size, machines = 4 * PARAMETERS[name], -(-gpus // assumed.machine)
    exchange = assumed.inside.exchange(size, min(gpus, assumed.machine))
    exchange += assumed.between.exchange(size, machines)
    return assumed.batch * STEP_FLOP[name] / assumed.flops, exchange


def rounded(figure: float) -> float:
    """To two digits: a model tells no more."""
    return float(f"{figure:.2g}")


def duration(seconds: float) -> str:
    """'12 s', '3 min', '5 h' or '4 days', to two digits."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{rounded(seconds / size):,.10g} {unit}"
    return f"{rounded(seconds):,.10g} s"


def training_table(assumed: Assumed = ASSUMED) -> str:
    heads = ("Network", "GPUs", "Pictures/s", "Exchange, share of a step", "Reading, decoded",
             *(f"{EPOCHS} epochs of 10{power} pictures" for power in ("⁶", "⁸")),
             "Dollars for 10⁸")  # fmt: skip

    def rows() -> Iterator[Sequence[str]]:
        for name in PARAMETERS:
            for gpus in GPUS:
                compute, exchange = step_seconds(name, gpus, assumed)
                rate = gpus * assumed.batch / (compute + exchange)
                price = EPOCHS * 1e8 / rate / 3600 * gpus * assumed.gpu_price
                yield (name, str(gpus), f"{rounded(rate):,.0f}",
                       f"{100 * exchange / (compute + exchange):.0f} %",
                       f"{rate * PIXELS[name] / 1e6:,.0f} MB/s", duration(EPOCHS * 1e6 / rate),
                       duration(EPOCHS * 1e8 / rate), f"{rounded(price):,.0f}")  # fmt: skip

    return harness.markdown_table(heads, rows())


# --- more pictures to label ---


@dataclass(frozen=True)
class Labelling:
    """What labelling takes, measured: a core's seconds for a picture, the share of the speed of one
    worker that each of two keeps, and bytes written of a picture with one face."""

    seconds: float
    kept: float
    row: float


def labelling_table(measured: Labelling, assumed: Assumed = ASSUMED) -> str:
    heads = ("Pictures", "Core-hours", "On 16 cores", "On 1,024 cores", "To read",
             "While 1,024 cores read it", "To write", "Dollars")  # fmt: skip

    def rows() -> Iterator[Sequence[str]]:
        for power, name in ((6, "10⁶"), (7, "10⁷"), (8, "10⁸"), (9, "10⁹")):
            pictures = 10.0**power
            work = pictures * measured.seconds / measured.kept
            read = pictures * assumed.picture
            yield (name, f"{rounded(work / 3600):,.0f}", duration(work / 16),
                   duration(work / 1024), size(read), f"{size(read / (work / 1024))}/s",
                   size(pictures * assumed.faces * measured.row),
                   f"{rounded(work / 3600 * assumed.core_price):,.10g}")  # fmt: skip

    return harness.markdown_table(heads, rows())


def size(count: float) -> str:
    """'200 GB': bytes to two digits."""
    units = {"TB": 1e12, "GB": 1e9, "MB": 1e6}
    unit = next((unit for unit, bytes_of in units.items() if count >= bytes_of), "MB")
    return f"{rounded(count / units[unit]):,.10g} {unit}"


def checked_table(told: Mapping[str, Any]) -> str:
    """The model beside the measurement, for two processes of one machine."""
    link = fitted(told["exchange"])
    rates: dict[str, dict[str, Any]] = {}
    for row in told["rows"]:
        rates.setdefault(row["network"], {})[row["way"]] = row

    def rows() -> Iterator[Sequence[str]]:
        for name, ways in rates.items():
            one, two = median(ways["one"]["rates"]), median(ways["two"]["rates"])
            row = ways["one"]
            model = predicted(one, row["parameters"], row["batch_size"], link)
            yield (name, f"{one:,.0f}", f"{model:,.0f}", f"{two:,.0f}", f"{two / model:.2f}")

    heads = ("Network", "One process (pictures/s)", "Two, by the model", "Two, measured",
             "Measured / model")  # fmt: skip
    return harness.markdown_table(heads, rows())


# --- the page ---


def assumptions(assumed: Assumed = ASSUMED) -> str:
    """What the table of GPUs assumes, as a sentence."""
    counts = "; ".join(
        f"{name}, {STEP_FLOP[name] / 1e9:.2f} GFLOP a picture and "
        f"{4 * PARAMETERS[name] / 1e6:.1f} MB of gradients"
        for name in PARAMETERS
    )
    inside, between = assumed.inside, assumed.between
    return (
        f"Assumed: a GPU reaches {assumed.flops / 1e12:g} TFLOP/s with {assumed.batch} pictures a "
        f"step; {assumed.machine} GPUs a machine; {inside.bandwidth / 1e9:g} GB/s and "
        f"{inside.latency * 1e6:g} µs between GPUs of a machine, {between.bandwidth * 8 / 1e9:.0f} "
        f"Gbit/s and {between.latency * 1e6:g} µs between machines; {assumed.gpu_price:g} dollars "
        f"for a GPU's hour. Counted: {counts}."
    )


def labelling_words(measured: Labelling, assumed: Assumed = ASSUMED) -> str:
    return (
        f"Measured: a core takes {1000 * measured.seconds:.0f} ms for a picture, from opening its "
        f"file to its row; each of two workers keeps {100 * measured.kept:.0f} % of the speed of "
        f"one; a face takes {measured.row:.0f} bytes. Assumed: more workers keep as much; files of "
        f"{assumed.picture / 1e3:g} kB with {assumed.faces:g} faces; {assumed.core_price:g} "
        "dollars for a core's hour."
    )


def tables() -> dict[str, str]:
    """The tables of docs/scale.md by name, from benchmarks/scale.json."""
    told = harness.read_record("scale") or {}
    training, labelled = told["processes"], measured_labelling(told["labelling"])
    return {
        "processes": f"`{training['command']}` ({harness.described(training)}):\n\n"
                     f"{processes.table(training)}",
        "exchange": processes.exchange_table(training),
        "checked": checked_table(training),
        "training": f"{assumptions()}\n\n{training_table()}",
        "labelling": f"{labelling_words(labelled)}\n\n{labelling_table(labelled)}",
    }  # fmt: skip


def measured_labelling(told: Mapping[str, Any]) -> Labelling:
    """What the benchmark of labelling measured with one and with two workers of Ray."""
    rows = {row["name"]: row for row in told["rows"]}
    one, two = rows["Ray, 1 worker"], rows["Ray, 2 workers"]
    rate = median(one["pictures_per_second"])
    kept = median(harness.ratios(two["pictures_per_second"], one["pictures_per_second"])) / 2
    return Labelling(1 / rate, kept, one["bytes_written"])


if __name__ == "__main__":
    escape_unprintable()
    for name, written in tables().items():
        print(f"{name}:", written, sep="\n\n", end="\n\n")
