"""The network that the demo serves: several seeds, the best on validation exported; ensembles."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import torch

from expression.checkpoint import read_card
from hf_collate import Batches
from lab import metrics, model_card
from lab.class_names import class_permutation
from lab.data import Faces, check_name
from lab.evaluation import (
    absent_note,
    command_of,
    draw_all,
    load_model,
    open_test,
    result_of,
    store_result,
)
from lab.results import SPLITS, MeasuredNetwork, Results, file_sha256

__all__ = ["SPLITS", "check_target", "ensemble", "export"]


def export(reports: Sequence[Path], out: Path, stem: str) -> Path:
    """Copy the seed that is best on validation to `out`, under `stem`; returns the checkpoint.

    `reports` are what `evaluate` returned, one a seed, with their checkpoints beside them
    (`../checkpoints`). The results of all seeds go to `out/results` too, the others under
    STEM-seedN, so that their mean and spread are told.
    Raises ValueError when `stem` is already another checkpoint: an exported file is not replaced.
    """
    names = [path.name.removesuffix(".json") for path in reports]
    seeds, kept = reports[0].parent, Results(out / "results")
    files = [seeds.parent / "checkpoints" / f"{name}.safetensors" for name in names]
    best = max(files, key=lambda file: validation_accuracy(Results(seeds), file))
    target = out / "checkpoints" / f"{stem}.safetensors"
    check_target(out, stem, [best])
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(best, target)
    take_over(Results(seeds), kept, {file_sha256(file) for file in files}, target)
    model_card.write(target, kept)
    return target


def check_target(out: Path, stem: str, seeds: Sequence[Path]) -> None:
    """ValueError where STEM cannot be a name, or is exported to `out` already and is none of the
    `seeds` (files).

    Called before the first seed is trained, too: hours of training should not end in it.
    """
    check_name(stem)
    target = out / "checkpoints" / f"{stem}.safetensors"
    if target.exists() and file_sha256(target) not in map(file_sha256, seeds):
        raise ValueError(
            f"{target} is another checkpoint than this run's seeds, and is not replaced. Choose "
            "another folder (--out), or move the file away; finished seeds are not trained again"
        )


def take_over(seeds: Results, kept: Results, digests: set[str], target: Path) -> None:
    """Copy the results of the seeds to where the best of them is exported, as `target`."""
    exported = file_sha256(target)
    for network, results in seeds.networks():
        if network.sha256 not in digests:
            continue
        best = network.sha256 == exported
        name = target.stem if best else f"{target.stem}-seed{network.card['seed']}"
        network = replace(network, name=name)
        copied = [kept.add(network, result, result.answers) for result in results]
        if best:
            draw_all(network, copied, kept.folder_of(name, exported))
    known = kept.openings()
    for opening in seeds.openings():
        if opening not in known:
            kept.log_opening(opening)


def validation_accuracy(kept: Results, file: Path) -> float:
    """Of one seed, with horizontal flip where that was measured, on the data it was trained on."""
    home = read_card(file)["data"]["fingerprint"]
    found = {r.key.views: r.evaluation.accuracy for r in kept.measured(file)
             if r.key.split == "validation" and r.key.fingerprint == home}  # fmt: skip
    return found.get("flip", found.get("plain", 0.0))


@torch.inference_mode()
def ensemble(
    checkpoints: Sequence[Path],
    faces: Faces,
    out: Path,
    device: torch.device,
    way: str = "flip",
    final: bool = False,
) -> Path:
    """Measure the mean probabilities of several networks, each with those views of a face.

    As `lab.evaluation.evaluate`: validation, and with `final` the test split too, written to
    `out/results/ensemble-DATA/`, whose path is returned.
    Classes are joined by name: the data's and the other networks' to those of the first network,
    whose order the figures have. The data may have only some of them.
    Raises ValueError when two networks know different classes, or the data have others, or two
    files have one name.
    """
    members = member_digests(checkpoints)
    loaded = [load_model(path, device) for path in checkpoints]
    first, names = str(checkpoints[0]), loaded[0][1]["class_names"]
    orders = [
        class_permutation(card["class_names"], names, model=str(path), data=first)
        for path, (_, card, _) in zip(checkpoints, loaded, strict=True)
    ]
    faces = faces.with_classes(names, first, subset=True)
    kept = Results(out / "results")
    digest = sha256("".join(sorted(members.values())).encode()).hexdigest()
    count = sum(sum(p.numel() for p in model.parameters()) for model, _, _ in loaded)
    data = {"name": faces.name, "fingerprint": faces.fingerprint}
    network = MeasuredNetwork(f"ensemble-{faces.name}", digest, {"data": data}, count, members)
    command = command_of("ensemble", checkpoints, faces, [way], final)
    if final:
        open_test(kept, network, faces, command, [way])
    for split in SPLITS if final else SPLITS[:1]:
        probs = torch.zeros(())
        for (model, _, rule), order in zip(loaded, orders, strict=True):
            loader = Batches(faces.decoded(rule)[split], 128, device=device)
            logits, labels = metrics.collect(model, loader, device, views=metrics.VIEWS[way])
            probs = probs + logits.softmax(1)[:, order] / len(loaded)
        logits = probs.log()
        told = metrics.evaluate(logits, labels, names)
        result = result_of(network, faces, split, way, told, command, device)
        store_result(kept, network, result, logits, labels, torch.arange(len(labels)), faces)
        if note := absent_note(told):
            print(f"{split:10}  {note}", flush=True)
    return kept.add_network(network)


def member_digests(checkpoints: Sequence[Path]) -> dict[str, str]:
    """{name: SHA-256} of the members of an ensemble, by which results/ tells them apart.

    Raises ValueError for two files of one name, or a file given twice: one would be missing in
    the record, and two different ensembles would pass for one.
    """
    members: dict[str, Path] = {}
    for path in checkpoints:
        if path.stem in members:
            raise ValueError(
                f"{members[path.stem]} and {path} are both called {path.stem}, and results tell "
                "the members of an ensemble apart by name; give each network once, under a name "
                "of its own"
            )
        members[path.stem] = path
    return {name: file_sha256(path) for name, path in members.items()}
