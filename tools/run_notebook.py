"""Execute a notebook top to bottom and keep its outputs, if every cell succeeded.

Why: `jupyter nbconvert --execute` is silent for minutes, takes whichever kernel is installed under
the name python3 and stamps times that change at every run. This says where it is, runs in the
Python that runs it, and leaves the file as it was when a cell fails.
Source: written for this project. Needs nbclient and ipykernel (jupyter); copy freely (see LICENSE).

    python tools/run_notebook.py Expression_detect.ipynb       # with SMOKE=1 it writes below out/
"""

import argparse
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

__all__ = ["OwnPython", "execute", "tidy"]


class OwnPython(AsyncKernelManager):
    """Starts the kernel in the Python that runs this file, whatever else is called python3."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]), **settings)


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Drop what changes from run to run or machine to machine and tells a reader nothing."""
    notebook.metadata.kernelspec = dict(display_name="Python 3", language="python", name="python3")
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)


def execute(notebook: nbformat.NotebookNode, folder: Path, timeout: float | None = None) -> None:
    """Run every cell in `folder`, in place, printing which and for how many seconds.

    Raises RuntimeError with the cell and the end of its traceback when one fails.
    """
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        kernel_manager_class=OwnPython,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
        resources={"metadata": {"path": str(folder)}},
    )
    start, number = time.perf_counter(), 0
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            began, lines = time.perf_counter(), cell.source.strip().splitlines()
            if cell.cell_type == "markdown" and (titles := [s for s in lines if s[0:1] == "#"]):
                print(f"{began - start:5.0f} s  {titles[-1].lstrip('# ')}", flush=True)
            if cell.cell_type != "code" or not lines:
                continue
            number += 1
            try:
                client.execute_cell(cell, index, execution_count=number)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                trace = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()[-12:]
                said = [f"Cell [{number}] failed:", *("    " + line for line in lines[:12]), *trace]
                raise RuntimeError("\n".join(said)) from error
            seconds = time.perf_counter() - began
            print(f"         [{number}] {seconds:.1f} s  {lines[0][:70]}", flush=True)
        client.set_widgets_metadata()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--output", type=Path, help="write here; without it, over the notebook")
    parser.add_argument("--timeout", type=float, help="seconds that one cell may take")
    options = parser.parse_args(arguments)
    source, small = options.notebook, os.environ.get("SMOKE", "") not in ("", "0")
    if not source.is_file():
        parser.error(f"no notebook {source}")
    # A small run checks; its figures are not for keeping.
    output = options.output or (source.parent / "out" / source.name if small else source)
    print(f"Running {source}{' (SMOKE: small)' if small else ''} with {sys.executable}", flush=True)
    os.environ.pop("MPLBACKEND", None)  # figures belong into the notebook, wherever else they went
    began, notebook = time.perf_counter(), nbformat.read(source, as_version=4)
    try:
        execute(notebook, source.resolve().parent, options.timeout)
    except (RuntimeError, KeyboardInterrupt) as error:
        print(f"{str(error) or 'Interrupted.'}\nNothing was written.", file=sys.stderr)
        return 1
    tidy(notebook)
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_name(output.name + ".tmp")
    nbformat.write(notebook, beside)
    beside.replace(output)
    print(f"Wrote {output} after {time.perf_counter() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
