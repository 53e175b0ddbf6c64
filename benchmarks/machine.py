"""What every timing is told beside: the machine, its threads, the versions."""

import os
import platform
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

__all__ = ["described", "processor", "surroundings", "wait"]


def processor() -> str:
    """The processor's name, without the words that every such name carries."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def surroundings(device: torch.device, *packages: str) -> dict[str, Any]:
    """Device, cores, threads, date and the versions of torch and of those packages installed."""
    cuda = device.type == "cuda"
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name(device) if cuda else processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": versions,
    }


def described(told: dict[str, Any]) -> str:
    """What `surroundings` told, in a few words."""
    threads = told["threads"]
    return (
        f"{told['device']}, {threads} thread{'s' * (threads > 1)}, "
        f"torch {told['versions']['torch']}, {told['date']}"
    )


def wait(device: torch.device) -> None:
    """Until the device has done what it was given: a clock read earlier tells too little."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
