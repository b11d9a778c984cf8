"""Triton configuration that serves the same version folders on a GPU, by Triton's own ONNX Runtime backend.

    python -m deploy.triton.gpu_profile model_repo/intent > config.pbtxt

Needs a Triton build with that backend. Inputs are not checked on the server then: only the worker's own checks remain.
"""

import sys
from pathlib import Path

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2

from training.signature import INPUTS, OUTPUTS
from worker.errors import InklingError, ModelError
from worker.versions import Manifest, check_spec, list_versions, read_manifest

_MAX_BATCH = 256
#: Long enough for a batch to gather at a few thousand events a second, short against the deadline.
_QUEUE_DELAY_US = 2000


def gpu_config(manifest: Manifest, versions: list[str], instances: int = 1) -> str:
    """The text of a config.pbtxt that serves `versions` of the manifest's model on every GPU."""
    pb = model_config_pb2
    config = pb.ModelConfig(
        name=manifest.model,
        backend="onnxruntime",
        default_model_filename="model.onnx",
        max_batch_size=_MAX_BATCH,
        input=[
            pb.ModelInput(name=name, data_type=_type(name), dims=[-1 if size == "T" else size for size in dims])
            for name, dims in INPUTS.items()
        ],
        output=[pb.ModelOutput(name=name, data_type=_type(name), dims=dims) for name, dims in OUTPUTS.items()],
        instance_group=[pb.ModelInstanceGroup(kind=pb.ModelInstanceGroup.KIND_GPU, count=instances)],
        dynamic_batching=pb.ModelDynamicBatching(max_queue_delay_microseconds=_QUEUE_DELAY_US),
        model_warmup=[_warm_up(min(8, manifest.spec.window)), _warm_up(manifest.spec.window)],
    )
    config.version_policy.specific.versions[:] = [int(version) for version in versions]
    text: str = text_format.MessageToString(config)
    return text


def _type(name: str) -> int:
    pb = model_config_pb2
    types: dict[str, int] = {"codes": pb.TYPE_INT32, "length": pb.TYPE_INT32, "next_items": pb.TYPE_STRING}
    return types.get(name, pb.TYPE_FP32)


def _warm_up(steps: int) -> model_config_pb2.ModelWarmup:
    """One session of `steps` rows at start: the first run of a shape is slow. Random codes would lie outside the tables."""
    inputs = {
        name: model_config_pb2.ModelWarmup.Input(
            data_type=_type(name), dims=[steps if size == "T" else size for size in dims], zero_data=True
        )
        for name, dims in INPUTS.items()
    }
    return model_config_pb2.ModelWarmup(name=f"{steps} rows", batch_size=1, inputs=inputs)


def main(model_folder: Path) -> None:
    """Print the configuration for the newest version in a model's folder. Raises ModelError when there is none of this layout."""
    versions = list_versions(model_folder)
    if not versions:
        raise ModelError(f"{model_folder}: holds no version; give a model's folder, like model_repo/intent")
    manifest = read_manifest(model_folder / versions[-1])
    check_spec(manifest.spec, f"version {manifest.version} of {manifest.model}")
    print(gpu_config(manifest, versions[-1:]), end="")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m deploy.triton.gpu_profile MODEL_FOLDER")
    try:
        main(Path(sys.argv[1]))
    except InklingError as error:
        raise SystemExit(f"error: {error}") from error
