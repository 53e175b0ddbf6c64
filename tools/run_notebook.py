"""Run a notebook from top to bottom and keep its outputs, if every cell succeeded.

Why: nbclient runs the cells. `jupyter execute` prints nothing meanwhile, may start another Python
whose kernel is called python3, and stores times that change with every run. This prints the
heading and the seconds of each cell, uses the Python that runs this file, and leaves the notebook
as it was when a cell fails or the run is interrupted.
Source: written for this project. Needs nbclient and ipykernel (jupyter); copy freely (see LICENSE).

    python tools/run_notebook.py Expression_detect.ipynb       # with SMOKE=1 it writes to out/
"""

import argparse
import os
import re
import sys
import time
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

__all__ = ["execute"]


class OwnKernelManager(AsyncKernelManager):
    """Starts the kernel of this Python; installed kernels of the same name are ignored."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]), **settings)


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run all cells in `folder`, in place; print the headings, and the seconds of each cell.

    Raises RuntimeError, with the number of the cell and the end of its traceback, when one fails.
    """
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        kernel_manager_class=OwnKernelManager,
        extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    start, number = time.perf_counter(), 0
    # Not client.execute(): after an interrupt it ends in an AssertionError of its own.
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            began, source = time.perf_counter(), cell.source.strip()
            if cell.cell_type == "markdown" and (titles := re.findall(r"(?m)^#+ (.*)", source)):
                print(f"{began - start:5.0f} s  {titles[-1]}", flush=True)
            if cell.cell_type != "code" or not source:
                continue
            number += 1
            try:
                client.execute_cell(cell, index, execution_count=number)
            except (CellExecutionError, DeadKernelError) as error:
                trace = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()[-12:]
                raise RuntimeError("\n".join([f"Cell [{number}] failed:", *trace])) from error
            seconds, first = time.perf_counter() - began, source.splitlines()[0][:70]
            print(f"         [{number}] {seconds:.1f} s  {first}", flush=True)
        client.set_widgets_metadata()
    notebook.metadata.kernelspec = dict(display_name="Python 3", language="python", name="python3")
    notebook.metadata.language_info = {"name": "python"}  # without the version of this machine
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times that another program stored


def main(arguments: list[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):  # as expression.terminal, which may not be importable
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--output", type=Path, help="write here; without it, over the notebook")
    options = parser.parse_args(arguments)
    source, small = options.notebook, os.environ.get("SMOKE", "") not in ("", "0")
    if not source.is_file():
        parser.error(f"no notebook {source}")
    # The figures of a small run are for checking only.
    output = options.output or (source.parent / "out" / source.name if small else source)
    print(f"Running {source}{' (SMOKE: small)' if small else ''} with {sys.executable}", flush=True)
    os.environ.pop("MPLBACKEND", None)  # figures belong into the notebook
    notebook = nbformat.read(source, as_version=4)
    try:
        execute(notebook, source.resolve().parent)
    except (RuntimeError, KeyboardInterrupt) as error:
        print(f"{str(error) or 'Interrupted.'}\nNothing was written.", file=sys.stderr)
        return 1
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(output.name + ".tmp")
    nbformat.write(notebook, part)
    part.replace(output)
    print(f"Wrote {output}.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
