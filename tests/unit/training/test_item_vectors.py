"""Vectors of items: how they are read, and that they tell of items that nobody has seen."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from tests.unit.training.shop import HOUR, T0
from training.architecture import Architecture
from training.content_rates import foretold
from training.examples import examples_of
from training.history import fold_log
from training.item_vectors import ItemVectors, read_item_vectors
from training.make_version import make_version
from training.rates import Rates
from training.read import LoggedEvent, logged
from training.train import Recipe
from worker.contract.events import HORIZONS, ClickEvent
from worker.contract.features import FeatureSpec, ModelInputs, bucket, encode_rows
from worker.contract.session import SessionPolicy
from worker.errors import ConfigurationError

SPEC = FeatureSpec(window=8)
_ITEMS, _DIM = 400, 24
SMALL = Architecture(width=16, layers=1, heads=2, feed_forward=16, item_width=4, category_width=4)
_SESSION = HORIZONS.index("session")


def shop(seed: int, sessions: int, items: range) -> list[LoggedEvent]:
    """Sessions of one visitor each who looks at two items, and then buys or not, as the items' first direction says."""
    dice = np.random.default_rng(seed)
    events = []
    for number in range(sessions):
        seen = dice.choice(items, 2)
        at = T0 + number * HOUR // 8
        kinds = ["view", "view", "purchase" if dice.random() < expit(-1.5 + 1.5 * liking()[seen].sum()) else "view"]
        events += [
            ClickEvent(f"{seed}-{number}-{k}", at + 20_000 * k, f"v{seed}-{number}", kind, item_id=f"i{item}")  # type: ignore[arg-type]
            for k, (kind, item) in enumerate(zip(kinds, [*seen, seen[1]], strict=True))
        ]
    return list(logged(events, 1))


def liking() -> np.ndarray:  # type: ignore[type-arg]
    """[_ITEMS]: how much items are liked."""
    return np.random.default_rng(7).normal(0, 1, _ITEMS)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In which the liking is one direction among others, of a turned space."""
    dice = np.random.default_rng(8)
    turned = np.linalg.qr(dice.normal(size=(_DIM, _DIM)))[0]
    inner = np.concatenate([liking()[:, None], dice.normal(0, 1, (_ITEMS, 3)), dice.normal(0, 0.1, (_ITEMS, _DIM - 4))], axis=1)
    return written(tmp_path_factory.mktemp("vectors") / "items.jsonl.gz", dict(enumerate((inner @ turned).tolist())))


def written(path: Path, vectors: dict[int, Sequence[float]]) -> Path:
    lines = [json.dumps({"item_id": f"i{item}", "vector": vector}) + "\n" for item, vector in vectors.items()]
    with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as file:
        file.writelines(lines)
    return path


def test_rates_of_items_that_nobody_saw_follow_their_vectors(vectors: Path) -> None:
    """Half of the items were seen: the rates of the others go with how much they are liked; without vectors they are 0."""
    made = examples_of(fold_log(shop(1, 1500, range(_ITEMS // 2)), SPEC, SessionPolicy()))
    unseen = [bucket("item", f"i{item}", SPEC.item_buckets) for item in range(_ITEMS // 2, _ITEMS)]
    plain, content = Rates(SPEC), Rates(SPEC)
    plain.fit(made)
    object.__setattr__(made, "vectors", read_item_vectors(vectors, SPEC))
    content.fit(made)
    assert not plain.item_here[unseen].any()
    told = content.item_here[unseen, 0].numpy()
    assert np.corrcoef(told, liking()[_ITEMS // 2 :])[0, 1] > 0.8
    assert not content.item_here[unseen, 1].any()  # nobody fills a cart here
    for fold in range(len(content.item_here_folds)):
        assert np.corrcoef(content.item_here_folds[fold, unseen, 0], told)[0, 1] > 0.9


def test_vectors_that_tell_nothing_change_nothing(vectors: Path) -> None:
    """What follows has nothing to do with them: sessions that are left out say so, and what is foretold is next to nothing."""
    read = read_item_vectors(vectors, SPEC)
    dice = np.random.default_rng(3)
    sessions = np.zeros((5, SPEC.item_buckets, 2))
    sessions[:, read.buckets] = dice.integers(5, 20, (5, len(read.buckets), 1))
    followed = dice.binomial(sessions.astype(int), 0.2).astype(float)
    content = foretold(read, followed, sessions)
    assert content.whole[read.buckets].std() < 0.06
    assert not foretold(read, np.zeros_like(followed), sessions).whole.any()
    assert not foretold(read, sessions, sessions).whole.any()


def test_a_fold_knows_nothing_of_its_own_sessions(vectors: Path) -> None:
    """Another outcome of a fold's sessions leaves what the vectors foretell for that fold as it was."""
    read = read_item_vectors(vectors, SPEC)
    sessions = np.zeros((5, SPEC.item_buckets, 1))
    sessions[:, read.buckets] = 10.0
    followed = np.zeros_like(sessions)
    followed[:, read.buckets, 0] = np.round(10 * expit(read.values @ np.arange(1, read.values.shape[1] + 1) / 10))
    before = foretold(read, followed, sessions)
    followed[2, read.buckets[:30]] = 0.0
    after = foretold(read, followed, sessions)
    np.testing.assert_array_equal(before.folds[2], after.folds[2])
    assert before.folds[2].any()
    assert not np.array_equal(before.folds[1], after.folds[1])


@pytest.mark.slow
def test_a_version_tells_unseen_items_apart(vectors: Path, tmp_path: Path) -> None:
    """Buyers of items that training never saw are found far better with vectors."""
    judged = fold_log(shop(2, 600, range(_ITEMS // 2, _ITEMS)), SPEC, SessionPolicy())
    first_two = [start + 1 for start in judged.start[:-1]]
    bought = judged.rows["codes"][judged.start[1:] - 1, 0] == 6  # what the third click is
    windows = [judged.rows[row - 1 : row + 1].tobytes() for row in first_two]
    found = {}
    for name, items in (("with", vectors), ("without", None)):
        version = make_version(
            lambda: shop(1, 1500, range(_ITEMS // 2)), tmp_path / name, source="shop", spec=SPEC, policy=SessionPolicy(),
            partitions=1, architecture=SMALL, recipe=Recipe(epochs=1), items=items,
        )  # fmt: skip
        assert version.data.source == ("shop items.jsonl.gz" if items else "shop")
        found[name] = roc_auc_score(bought, scores_of(version.path, encode_rows(windows)))
    assert found["with"] > found["without"] + 0.1  # which knows what others bought in the meantime
    assert found["with"] > 0.75


def scores_of(version: Path, inputs: ModelInputs) -> np.ndarray:  # type: ignore[type-arg]
    from training.graph import Graph

    return Graph(version / "model.onnx").score(inputs, "1").purchase[:, _SESSION]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["{}"], ':1: no {"item_id", "vector"}: Object missing required field'),
        (['{"item_id": "a", "vector": [1]}', "", "nonsense"], ":3: no"),
        (['{"item_id": "a", "vector": [1, 2]}', '{"item_id": "b", "vector": [1]}'], ":2: a vector of 1 numbers, those before"),
        (['{"item_id": "a", "vector": []}'], ":1: a vector of 0 numbers"),
        (['{"item_id": "a", "vector": [1e300]}'], ":1: no"),
        (['{"item_id": "", "vector": [1]}'], ":1: no"),
        (['{"item_id": "a", "vector": [1]}'], "no two items with different vectors"),
        (['{"item_id": "a", "vector": [1]}', '{"item_id": "b", "vector": [1]}'], "no two items with different vectors"),
        ([], "no two items with different vectors"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, lines: list[str], told: str) -> None:
    """With its line, and what is wrong there."""
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigurationError) as raised:
        read_item_vectors(path, SPEC)
    assert f"{path}" in str(raised.value)
    assert told in str(raised.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, or cut off."""
    with pytest.raises(ConfigurationError, match=r"none\.jsonl: cannot be read: No such file"):
        read_item_vectors(tmp_path / "none.jsonl", SPEC)
    whole = written(tmp_path / "items.jsonl.gz", {n: [n, 1.0] for n in range(50)}).read_bytes()
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigurationError, match=r"cut\.jsonl\.gz: cannot be read"):
        read_item_vectors(tmp_path / "cut.jsonl.gz", SPEC)


def test_of_an_item_that_comes_twice_the_last_counts(tmp_path: Path) -> None:
    """And a direction in which no item differs is left out; values have mean 0 and mean square 1 over all items."""
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps({"item_id": name, "vector": vector}) + "\n"
                            for name, vector in (("a", [5, 5]), ("a", [1, 5]), ("b", [2, 5]), ("c", [3, 5]))))  # fmt: skip
    read: ItemVectors = read_item_vectors(path, SPEC)
    assert read.buckets.tolist() == sorted(bucket("item", name, SPEC.item_buckets) for name in "abc")
    assert read.values.shape == (3, 1)
    assert read.values.mean() == pytest.approx(0)
    assert (read.values**2).mean() == pytest.approx(1)
