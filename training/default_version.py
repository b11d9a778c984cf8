"""The version that ships with the code: trained on a simulated shop. `python -m training.default_version` makes it anew."""

import logging
import shutil
from pathlib import Path

from training.make_version import make_version
from training.read import logged
from training.simulate import DEFAULT_SHOP, load_shop, simulate
from training.version import LoadedVersion
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy
from worker.settings import TopicSettings

#: Two weeks, so that labels of the 7 day horizon are there.
SESSIONS, HOURS = 24_000, 14 * 24.0
SEED = 7
#: 2026-01-05T00:00:00Z, a Monday.
START_MS = 1_767_571_200_000
FOLDER = Path(__file__).parents[1] / "model_repo" / "intent" / "1"


def make_default_version(out: Path) -> LoadedVersion:
    """Simulate, train and write the version to `out`. The same code gives the same weights on one machine."""
    stream = simulate(load_shop(DEFAULT_SHOP), SESSIONS, SEED, START_MS, sessions_per_hour=SESSIONS / HOURS)
    partitions = TopicSettings().partitions
    return make_version(
        lambda: logged(stream.events(), partitions),
        out,
        source=f"inkling simulate --sessions {SESSIONS} --seed {SEED}",
        spec=FeatureSpec(),
        policy=SessionPolicy(),
        partitions=partitions,
        seed=SEED,
    )


def main() -> None:
    """Replace the shipped version by a new one, whole or not at all."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    new = FOLDER.with_name(".new-default")
    shutil.rmtree(new, ignore_errors=True)
    try:
        make_default_version(new / FOLDER.name)
        shutil.rmtree(FOLDER, ignore_errors=True)
        (new / FOLDER.name).rename(FOLDER)
    finally:
        shutil.rmtree(new, ignore_errors=True)


if __name__ == "__main__":
    main()
