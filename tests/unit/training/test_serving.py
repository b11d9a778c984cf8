"""The serving model: calibrated probabilities after the newest row."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from training.architecture import Architecture
from training.candidates import Candidates
from training.export import export_onnx
from training.golden import sample_inputs
from training.graph import Graph
from training.model import IntentModel
from training.next_items import Counts, NextItems
from training.serving import BOUGHT, Calibration, ServingModel, bands_of, cumulative
from training.train import tensors
from training.version import LoadedVersion
from worker.contract.features import CODES, NUMBERS, TYPE_CODE, FeatureSpec, ModelInputs


def test_links_make_probabilities_that_rise() -> None:
    """Inwards by what the longer horizon already holds, outwards by what it does not; rising for any logits, within 0 and 1."""
    logits = torch.tensor([[-1.0, 0.5, 2.0, -30.0, 30.0]])
    m5, m30, session, h24, d7 = torch.sigmoid(logits)[0]
    day = session + (1 - session) * h24
    expected = torch.stack([session * m30 * m5, session * m30, session, day, day + (1 - day) * d7])
    torch.testing.assert_close(cumulative(logits)[0], expected)
    wild = cumulative(torch.randn(1000, 5) * 50)
    assert (wild.diff(dim=-1) >= 0).all()
    assert ((wild >= 0) & (wild <= 1)).all()


def test_prefix_bands_are_those_of_the_position() -> None:
    """1, 2, 3 to 4, 5 to 8, and all that is longer; whatever else the row says."""
    codes, numbers = torch.ones((9, len(CODES)), dtype=torch.int32), torch.full((9, len(NUMBERS)), torch.nan)
    numbers[:, NUMBERS.index("position")] = torch.tensor([1.0, 2, 3, 4, 5, 8, 9, 64, 1000])
    assert bands_of(codes, numbers).tolist() == [0, 1, 2, 2, 3, 3, 4, 4, 4]


def test_rows_from_a_purchase_on_have_a_band_of_their_own() -> None:
    """The purchase itself and all that follows in its window, and nothing of another window."""
    codes, numbers = torch.ones((2, 5, len(CODES)), dtype=torch.int32), torch.zeros((2, 5, len(NUMBERS)))
    numbers[..., NUMBERS.index("position")] = torch.arange(1.0, 6.0)
    codes[1, 2, CODES.index("type")] = TYPE_CODE["purchase"]
    assert bands_of(codes, numbers).tolist() == [[0, 1, 2, 2, 3], [0, 1, BOUGHT, BOUGHT, BOUGHT]]


def test_each_band_has_a_correction_of_its_own(shipped: LoadedVersion) -> None:
    """What is put into one band's bias moves that band's scores and no other's."""
    model = shipped.serving_model()
    full = sample_inputs(model.network.spec, 3, 1, 8)
    inputs = ModelInputs(*(np.repeat(array, 8, axis=0) for array in full))._replace(
        length=np.arange(1, 9, dtype=np.int32)[:, None]
    )
    inputs.numbers[..., NUMBERS.index("position")] = np.arange(1, 9)
    inputs.codes[..., CODES.index("type")] = TYPE_CODE["view"]
    with torch.no_grad():
        before = model(*tensors(inputs), torch.from_numpy(inputs.length)).purchase
        model.calibration.link_bias[2] += 1.0
        after = model(*tensors(inputs), torch.from_numpy(inputs.length)).purchase
    moved = (after != before).any(dim=1).numpy()
    assert np.array_equal(moved, np.isin(inputs.length[:, 0], (3, 4)))
    assert moved.any()


@pytest.mark.slow
@pytest.mark.parametrize("window", [2, 8, 11, 64])
def test_a_graph_of_any_window_takes_every_length(window: int, tmp_path: Path) -> None:
    """And every batch; it says what the network says (the filter works in blocks, of which there may be but one)."""
    torch.manual_seed(0)
    spec = FeatureSpec(window=window, item_buckets=64, category_buckets=16, brand_buckets=16)
    small = Architecture(width=16, layers=1, heads=2, feed_forward=16, item_width=8, category_width=4)
    model = ServingModel(IntentModel(spec, small), Calibration(), Candidates(("a", "b"), (2, 1))).eval()
    export_onnx(model, tmp_path / "model.onnx")
    graph = Graph(tmp_path / "model.onnx")
    for sessions, steps in ((1, 1), (3, 1), (1, window), (5, window)):
        inputs = sample_inputs(spec, 3, sessions, steps)
        with torch.no_grad():
            said = model(*tensors(inputs), torch.from_numpy(inputs.length))
        np.testing.assert_allclose(graph.score(inputs, "1").purchase, said.purchase, atol=1e-5)
        np.testing.assert_allclose(graph.score(inputs, "1").next_type, said.next_type, atol=1e-5)


def test_candidates_are_the_most_frequent_items() -> None:
    """Among equals the smaller id, so that the same data names the same items."""
    items = Counter({"b": 5, "a": 5, "rare": 1, "top": 9})
    assert Candidates.most_frequent(items, 3) == Candidates(("top", "a", "b"), (9, 5, 5))
    assert Candidates(("x",), (4,)).merged(Counter({"y": 5, "x": 3})) == Candidates(("x", "y"), (7, 5))


def test_places_that_no_item_fills_are_nobodys(shipped: LoadedVersion) -> None:
    """They have no probability, and an index beyond the candidates, whose name in the graph is empty."""
    model = shipped.serving_model()
    inputs = sample_inputs(model.network.spec, 3, 1, 8)
    candidates = Candidates(("a", "b"), (3, 1))
    nothing = Counts(*(sparse.csr_matrix((sources, 2)) for sources in (2**20, 2**20, model.network.spec.category_buckets)))
    lists = NextItems(model.network.spec.category_buckets).fitted_to(nothing, candidates)
    few = ServingModel(model.network, model.calibration, candidates, lists).eval()
    with torch.no_grad():
        said = few(*tensors(inputs), torch.from_numpy(inputs.length))
    assert said.next_item_index[0].tolist() == [0, 1] + [2] * 8
    assert float(said.next_item_p[0, 0] / said.next_item_p[0, 1]) == pytest.approx(3.0, rel=1e-4)
    assert (said.next_item_p[0, 2:] == 0).all()


def test_probabilities_are_of_the_newest_row(shipped: LoadedVersion) -> None:
    """Longer padding changes nothing; one row more does."""
    model = shipped.serving_model()
    inputs = sample_inputs(model.network.spec, 4, 1, 8)
    with torch.no_grad():
        short = model(*tensors(inputs), torch.from_numpy(inputs.length))
        padded = model(
            torch.nn.functional.pad(torch.from_numpy(inputs.codes), (0, 0, 0, 8)),
            torch.nn.functional.pad(torch.from_numpy(inputs.numbers), (0, 0, 0, 8)),
            torch.from_numpy(inputs.length),
        )
        earlier = model(*tensors(inputs), torch.from_numpy(inputs.length - 1))
    np.testing.assert_allclose(short.purchase, padded.purchase, atol=1e-6)
    assert not np.allclose(short.purchase, earlier.purchase, atol=1e-6)
    assert float(short.next_type.sum()) == pytest.approx(1.0, abs=1e-5)
