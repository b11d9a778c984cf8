"""The test inference at start: the newest version that Triton says is ready must give the scores it was published with."""

import asyncio
import time
from pathlib import Path

from deploy.local.triton import Probe, found_models
from worker.errors import ScorerRejected
from worker.scoring.golden import check
from worker.scoring.triton import TritonScorer
from worker.versions import list_versions, open_version

_TIMEOUT_S = 30.0  # the first inference of a version may compile
_MAX_BATCH = 128
#: A model's own process may be too busy to answer just then: Triton calls it not ready for a moment.
_SETTLE_S = 10.0
_POLL_S = 0.2


def golden_probe(repository: Path) -> Probe:
    """A probe for every model in the repository whose versions carry a golden batch; others are taken as they are.

    It raises an InklingError: no version is ready, or a wrong answer, which is what a wrong NumPy in Triton's process gives.
    """

    def probe(grpc_address: str) -> None:
        for name in found_models(repository):
            versions = [version for version in list_versions(repository / name) if _has_golden(repository / name / version)]
            if versions:
                asyncio.run(_check_newest(grpc_address, repository / name, versions))

    return probe


async def _check_newest(address: str, model_folder: Path, versions: list[str]) -> None:
    scorer = await TritonScorer.connect(address, model_folder.name, _TIMEOUT_S, _MAX_BATCH)
    try:
        give_up = time.monotonic() + _SETTLE_S
        while time.monotonic() < give_up:
            for version in reversed(versions):
                if await scorer.is_ready(version):
                    await check(scorer, version, open_version(model_folder, version).golden)
                    return
            await asyncio.sleep(_POLL_S)
    finally:
        await scorer.close()
    raise ScorerRejected(f"none of the versions {', '.join(versions)} of {model_folder.name} is ready")


def _has_golden(version_folder: Path) -> bool:
    return (version_folder / "golden.json").exists()
