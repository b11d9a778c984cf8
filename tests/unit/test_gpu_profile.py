"""The GPU profile: text that Triton itself can read."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from deploy.triton.gpu_profile import gpu_config, main
from worker.errors import ModelError
from worker.versions import read_manifest

REPOSITORY = Path(__file__).parents[2] / "model_repo" / "intent"


def parsed(text: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_takes_and_gives_what_the_shipped_configuration_does() -> None:
    """Clients need not know which of the two serves: same name, inputs, outputs and batch size."""
    gpu = parsed(gpu_config(read_manifest(REPOSITORY / "1"), ["1", "4"]))
    cpu = parsed((REPOSITORY / "config.pbtxt").read_text())
    assert gpu.name == cpu.name
    assert gpu.max_batch_size == cpu.max_batch_size
    assert list(gpu.input) == list(cpu.input)
    assert list(gpu.output) == list(cpu.output)


def test_runs_the_graph_on_the_gpu() -> None:
    """ONNX Runtime backend, GPU instances, the versions asked for."""
    gpu = parsed(gpu_config(read_manifest(REPOSITORY / "1"), ["1", "4"], instances=2))
    assert gpu.backend == "onnxruntime"
    assert [(group.kind, group.count) for group in gpu.instance_group] == [(model_config_pb2.ModelInstanceGroup.KIND_GPU, 2)]
    assert list(gpu.version_policy.specific.versions) == [1, 4]


def test_prints_the_newest_version(capsys: pytest.CaptureFixture[str]) -> None:
    """As a command it needs only the model's folder."""
    main(REPOSITORY)
    assert list(parsed(capsys.readouterr().out).version_policy.specific.versions) == [1]


def test_a_folder_without_versions_is_refused(tmp_path: Path) -> None:
    """One line says what to give."""
    with pytest.raises(ModelError, match="holds no version"):
        main(tmp_path)
