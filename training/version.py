"""A version of the model as a folder: written once, whole, and read back only if every file is as the manifest says."""

import json
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from training.architecture import Architecture
from training.candidates import Candidates
from training.export import export_onnx
from training.golden import golden_of
from training.model import IntentModel
from training.next_categories import NextCategories
from training.next_items import BACK, NextItems
from training.rates import PROFILE
from training.row_features import FEATURES, PROFILE_FEATURES
from training.serving import Calibration, ServingModel
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy
from worker.errors import ModelError
from worker.scoring.fallback import FallbackScorer
from worker.versions import MANIFEST, Manifest, check_files, check_spec, read_manifest, sha256_of

FORMAT = 1
MODEL_NAME = "intent"
#: Files of a version beside the manifest.
FILES = ("model.py", "model.onnx", "weights.safetensors", "fallback.json", "next_categories.json", "golden.json")
_TEMPLATE = Path(__file__).with_name("triton_model.py")
_CANDIDATES = "candidates"
_WIDE = "network.wide.weight"
_MIXED, _CATEGORY_ROW, _ITEM_SCALE = "next_items.weight", "next_items.category_row", "calibration.item_scale"
_BY_PLACE = ("network.churn_at.weight", "network.next_type_at.weight")
_PRETRAINED = ("network.next_category.", "network.pause.")
_NEXT_CATEGORIES = "next_categories.json"
_MEAN, _DEVIATION, _NUMBERS_IN = "network.features.mean", "network.features.deviation", "network.numbers_in.weight"
_VALUE, _IMPOSSIBLE = "network.features.intents.value", "network.features.intents.impossible"
_READIER = "network.features.intents.readier_by_rate"
_PROFILE_RATES = tuple(f"network.features.rates.{scope}_" for scope in PROFILE)


class TrainingData(msgspec.Struct, frozen=True):
    """What a version was trained on: events at or after `from_ms` and before `until_ms`.

    `priors` are the shares of positive labels by head and horizon. `not_learned` names outputs for which the data held no
    example of one kind: these stay at a guess.
    """

    source: str
    from_ms: int
    until_ms: int
    events: int
    sessions: int
    priors: dict[str, list[float]]
    not_learned: list[str]


@dataclass(frozen=True)
class LoadedVersion:
    """A version folder whose files are as its manifest says."""

    path: Path
    manifest: Manifest

    @property
    def data(self) -> TrainingData:
        """What it was trained on. Raises ModelError when the manifest does not say."""
        try:
            return msgspec.convert(self.manifest.data, TrainingData)
        except msgspec.ValidationError as error:
            raise ModelError(f"{self.path / MANIFEST}: data is not as this code writes it ({error}); train anew") from error

    @property
    def architecture(self) -> Architecture:
        """The sizes of its network. Raises ModelError when the manifest does not say."""
        try:
            return msgspec.convert(self.manifest.architecture, Architecture)
        except msgspec.ValidationError as error:
            raise ModelError(f"{self.path / MANIFEST}: unknown architecture ({error}); use the release that made it") from error

    def serving_model(self) -> ServingModel:
        """A new copy of the network with its calibration and candidates, in evaluation mode, for rows of the spec as it is now.

        Raises ModelError when the weights do not fit.
        """
        path = self.path / "weights.safetensors"
        try:
            with safe_open(path, "pt") as file:
                candidates = json.loads((file.metadata() or {})[_CANDIDATES])
            spec = msgspec.structs.replace(self.manifest.spec, version=FeatureSpec().version)
            network = IntentModel(spec, self.architecture)
            named = Candidates(tuple(candidates["ids"]), tuple(candidates["counts"]))
            weights = safetensors.torch.load_file(path)
            rows, kept = weights["next_items.item"].shape
            next_items = NextItems(spec.category_buckets, rows, kept, len(weights["next_items.row"]))
            model = ServingModel(network, Calibration(), named, next_items)
            model.load_state_dict(_as_now(weights, model.state_dict()))
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"{path}: cannot be loaded ({reason}); take another version or train anew") from error
        return model.eval()

    def fallback(self) -> FallbackScorer:
        """The version's fallback."""
        return FallbackScorer.from_json(json.loads((self.path / "fallback.json").read_bytes()))

    def next_categories(self) -> NextCategories | None:
        """What it says of the next event's category; None of versions from before there was such. Raises ModelError."""
        if _NEXT_CATEGORIES not in self.manifest.files:
            return None
        return NextCategories.from_json((self.path / _NEXT_CATEGORIES).read_bytes())


def export_version(
    model: ServingModel,
    fallback: FallbackScorer,
    next_categories: NextCategories,
    out: Path,
    *,
    version: str,
    parent: str | None,
    data: TrainingData,
    policy: SessionPolicy,
    partitions: int,
    metrics: dict[str, Any],
    seed: int,
) -> LoadedVersion:
    """Write a complete version folder at `out` (a new or empty folder) and load it back, verified.

    Raises ModelError when `out` holds anything already: versions are never overwritten.
    """
    check_new(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.py").write_bytes(_TEMPLATE.read_bytes())
    export_onnx(model, out / "model.onnx")
    names = {"ids": model.candidates.ids, "counts": model.candidates.counts}
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    (out / "weights.safetensors").write_bytes(safetensors.torch.save(weights, {_CANDIDATES: json.dumps(names)}))
    _write_json(out / "fallback.json", fallback.to_json())
    _write_json(out / _NEXT_CATEGORIES, next_categories.to_json())
    _write_json(out / "golden.json", golden_of(out / "model.onnx", model.network.spec, version, seed).to_json())
    manifest = Manifest(
        format=FORMAT,
        model=MODEL_NAME,
        version=version,
        parent=parent,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        code_revision=_code_revision(),
        data=msgspec.to_builtins(data),
        spec=model.network.spec,
        policy=policy,
        partitions=partitions,
        architecture=msgspec.to_builtins(model.network.architecture),
        metrics=metrics,
        calibration={name: buffer.tolist() for name, buffer in model.calibration.named_buffers()},
        seed=seed,
        files={name: sha256_of(out / name) for name in FILES},
    )
    _write_json(out / MANIFEST, msgspec.to_builtins(manifest), indent=1)
    return load_version(out)


def load_version(path: Path, verify: bool = True) -> LoadedVersion:
    """A version folder; unless `verify` is off every file is checked against the manifest.

    Raises ModelError with one line when it is missing, damaged, or of a format that this code does not know.
    """
    if not (path / MANIFEST).is_file():
        raise ModelError(f"{path}: no version here, {MANIFEST} is missing; give a folder made by `inkling train`")
    manifest = read_manifest(path)
    if manifest.format != FORMAT:
        raise ModelError(f"{path}: is of format {manifest.format}, this code reads format {FORMAT}; use the release that made it")
    if manifest.spec.version > FeatureSpec().version:
        check_spec(manifest.spec, str(path))
    if verify:
        check_files(path, manifest)
    return LoadedVersion(path, manifest)


def check_new(out: Path) -> None:
    """Raises ModelError when a version cannot be written to `out` because something is there."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out}: is not an empty folder, and a version is never overwritten; give a new one")


def _as_now(weights: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an older version so that they say the same now.

    The oldest have no levels by place, others none for visitors who came before, and no wide part of the next type. Which item
    comes next they asked the network, too, which now is an empty list of the most frequent ones. Who visits they did not see: to
    them that never varied. What only training asks they were not asked: that starts anew. To their filter every state could
    buy, and no visitor was readier than others.
    """
    weights = {name: tensor for name, tensor in wanted.items() if name.startswith(_PRETRAINED)} | weights
    weights = _without_profile(weights, wanted)
    if _IMPOSSIBLE not in weights:
        nothing = {name: torch.zeros_like(wanted[name]) for name in (_IMPOSSIBLE, _READIER)}
        weights |= {**nothing, _VALUE: weights[_VALUE].expand_as(wanted[_VALUE])}
    levels = {name: weights.get(name, wanted[name] * 0.0) for name in _BY_PLACE}
    levels = {name: torch.cat([level, level[:1].expand(len(wanted[name]) - len(level), -1)]) for name, level in levels.items()}
    wide = torch.zeros_like(wanted[_WIDE])
    wide[: len(weights[_WIDE])] = weights[_WIDE]
    mixed = weights[_MIXED]
    if weights.pop(_ITEM_SCALE, None) is not None:
        weights[_CATEGORY_ROW] = wanted[_CATEGORY_ROW]
        items, own, network = torch.split(mixed, [BACK, BACK, 1], dim=-1)
        mixed = torch.cat([items, network * 0.0, network, own, network * 0.0], dim=-1)
    return {**weights, **levels, _WIDE: wide, _MIXED: mixed}


def _without_profile(weights: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """With features of who visits that say nothing, where there are none."""
    if _MEAN not in weights or len(weights[_MEAN]) == FEATURES:
        return weights
    known = FEATURES - PROFILE_FEATURES
    padded = dict(weights)
    padded |= {name: torch.zeros_like(tensor) for name, tensor in wanted.items() if name.startswith(_PROFILE_RATES)}
    padded[_MEAN] = F.pad(weights[_MEAN], (0, PROFILE_FEATURES))
    padded[_DEVIATION] = F.pad(weights[_DEVIATION], (0, PROFILE_FEATURES), value=torch.inf)
    for name in (_NUMBERS_IN, _WIDE):
        features, others = weights[name][:, :known], weights[name][:, known:]
        padded[name] = torch.cat([F.pad(features, (0, PROFILE_FEATURES)), others], dim=1)
    return padded


def _write_json(path: Path, document: Any, indent: int | None = None) -> None:
    path.write_text(json.dumps(document, indent=indent, allow_nan=False) + "\n")


def _code_revision() -> str:
    """The commit of the code, with a mark when it was changed since; "unknown" outside of a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=_TEMPLATE.parent, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
