"""docs/kubernetes.yaml: the job starts what it says, with files and extras that exist."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

import experiments
from lab.parsing import parse

DOCS = Path(experiments.__file__).parent / "docs"


@pytest.fixture(scope="module")
def job():
    return yaml.safe_load((DOCS / "kubernetes.yaml").read_text(encoding="utf-8"))


def containers(job):
    """{kind of machine: its container}."""
    replicas = job["spec"]["pytorchReplicaSpecs"]
    return {kind: told["template"]["spec"]["containers"][0] for kind, told in replicas.items()}


def test_every_machine_runs_the_same_training_on_its_gpus(job):
    found = containers(job)
    assert found.keys() == {"Master", "Worker"} and found["Master"] == found["Worker"]
    container = found["Master"]
    assert container["name"] == "pytorch", "the operator looks for this name"
    assert str(container["resources"]["limits"]["nvidia.com/gpu"]) == job["spec"]["nprocPerNode"]
    assert isinstance(job["spec"]["nprocPerNode"], str), "the operator refuses a number"


def test_torchrun_takes_machines_and_gpus_from_the_operators_variables(job, monkeypatch):
    from torch.distributed import run

    # What the operator sets for the second of two machines
    told = {"NNODES": "2", "NPROC_PER_NODE": "8", "NODE_RANK": "1",
            "MASTER_ADDR": "expression-master-0", "MASTER_PORT": "23456"}  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(f"PET_{name}", value)
    container = containers(job)["Worker"]
    program, *words = [*container["command"], *container["args"]]
    args = run.parse_args(words)
    assert program == "torchrun" and args.module and args.training_script == "experiments"
    assert (args.nnodes, args.nproc_per_node, args.node_rank) == ("2", "8", 1)
    assert args.master_addr == "expression-master-0"
    parse(args.training_script_args)


def test_volumes_are_there_and_the_training_writes_into_one(job):
    spec = job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]
    (container,) = spec["containers"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted.keys() == {volume["name"] for volume in spec["volumes"]}
    assert container["workingDir"] in mounted.values()


def test_the_image_installs_what_trains():
    text = (DOCS / "train.Dockerfile").read_text(encoding="utf-8")
    (extra,) = re.findall(r"\[(\w+)\]", text)
    project = (DOCS.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(rf"^{extra} = \[", project, re.MULTILINE)
    for line in text.splitlines():
        assert not line.startswith("ENTRYPOINT"), "the job names the command"
    assert shlex.split(text.splitlines()[2])[0] == "COPY"
