"""results/TORTURE.md: what results/torture.json holds, for people."""

from typing import Any

from expression.files import shown

__all__ = ["TITLES", "page"]

TITLES = {  # in the order in which they run
    "pictures": "mutated pictures",
    "videos": "mutated videos",
    "checkpoints": "mutated checkpoints and cards",
    "onnx_files": "mutated .onnx files",
    "states": "mutated training states",
    "data": "mutated CSV, parquet, folders",
    "disk": "full disk while something is written",
    "labelling": "SIGKILL while a folder is labelled",
    "bulk": "SIGKILL of workers and driver while 10,000 pictures are labelled",
    "training": "SIGKILL while a network trains",
    "visitors": "50 visitors of the demo at once",
    "programs": "200 clients of the server for programs at once",
}
HEAD = """# Torture: what the project was put through

Every attack is seeded and stays on one machine: `make torture` repeats them (see
[SECURITY.md](../SECURITY.md) for what is promised). A fault is a traceback, a crash, a hang, memory
over the bound, a wrong answer, or a file left behind. This page is made from `torture.json`.

| Attack | Tried | Answered | Refused in one sentence | Faults | Slowest | Memory, at most (bound) |
|---|---|---|---|---|---|---|
"""


def page(attacks: dict[str, Any]) -> str:
    """The page as Markdown."""
    rows, notes = [], []
    for name, title in TITLES.items():
        if name not in attacks:
            continue
        told = attacks[name]
        slowest = f"{told['slowest']['seconds']:.1f} s" if told["slowest"] else "–"
        memory = f"{told['peak_mb']:,} MB" if told["peak_mb"] else "–"
        memory += f" ({told['bound_mb']:,} MB)" if told["bound_mb"] else ""
        numbers = [f"{told[key]:,}" for key in ("tried", "answered", "refused", "faults")]
        rows.append(f"| {title} | {' | '.join(numbers)} | {slowest} | {memory} |")
        notes.append(f"- **{title[:1].upper()}{title[1:]}.** {about(told)}")
        for fault in told["fault_list"][:5]:
            notes.append(f"  - fault: {cell(fault['what'])} (`{fault['again']}`)")
    return HEAD + "\n".join(rows) + "\n\n" + "\n".join(notes) + "\n"


def about(told: dict[str, Any]) -> str:
    words = f"{told['notes']} " if told.get("notes") else ""
    return (
        f"{words}{told['seconds']:.0f} s on {told['machine']}; `{told['command']}`, revision "
        f"{told['revision']}, {told['date']}."
    )


def cell(text: str) -> str:
    return shown(" ".join(text.split()))[:300].replace("|", "/").replace("`", "'")
