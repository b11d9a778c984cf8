"""What baselines are made of, each against a plain way of doing the same."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from tests.unit.training.baselines.test_session_log import click, cut
from training.baselines.batches import last_events, prefix_tables, session_tables
from training.baselines.bayes import _conditional_information, _Network
from training.baselines.counting import Markov
from training.baselines.features import FEATURES, features
from training.baselines.heads import LateCorrection, most_popular, to_classes, top_items
from training.baselines.item2vec import _SkipGram
from training.baselines.item_graph import Attention, Convolution, Edges
from training.baselines.multi_task import Outputs, Targets, loss_of
from training.baselines.neighbours import SessionKNN
from training.labels import UNKNOWN
from training.session_log import SessionLog
from worker.contract.events import ClickEvent


def shop(paths: list[str], buys: set[int] = frozenset()) -> SessionLog:  # type: ignore[assignment]
    """Sessions that view the letters of each path; those in `buys` end with a purchase."""
    events: list[ClickEvent] = []
    for s, path in enumerate(paths):
        for k, item in enumerate(path):
            events.append(click(len(events), 100 * s + k, "view", f"s{s}", item, f"v{s}"))
        if s in buys:
            events.append(click(len(events), 100 * s + len(path), "purchase", f"s{s}", path[-1], f"v{s}"))
    return cut(events)


def names_of(log: SessionLog, numbers: np.ndarray) -> str:
    letters = list(log.names.items)
    return "".join(letters[k] for k in numbers if k >= 0)


def test_markov_lists_what_followed() -> None:
    """First what followed the last two items, then what followed the last one, then what is popular."""
    log = shop(["abc"] * 3 + ["xbd"] * 4 + ["e"] * 9)
    markov = Markov()
    markov.fit(log, 0)
    ahead = markov.predict(shop(["abc"] * 3 + ["xbd"] * 4 + ["ab", "xb"])).next_items
    assert ahead is not None
    assert names_of(log, ahead[-3])[:2] == "cd"
    assert names_of(log, ahead[-1])[:2] == "dc"
    assert names_of(log, ahead[-1])[2] == "e"


def test_markov_backs_off_to_shorter_contexts() -> None:
    """A context that training never saw is told by its shorter ones: more purchases after two views than after one."""
    log = shop(["ab"] * 40 + ["a"] * 40, buys=set(range(40)))
    markov = Markov()
    markov.fit(log, 0)
    said = markov.predict(log)
    first, second = said.purchase[log.position == 1], said.purchase[(log.position == 2) & (log.purchase != UNKNOWN)]
    assert second.min() > 0.6 > first.max() > 0.4 > 0


def test_neighbours_are_the_sessions_that_share_items() -> None:
    """What they hold is listed, the most shared first; the item at hand is not, as no session holds one twice in a row."""
    log = shop(["abc", "abd", "abd", "xyz"])
    knn = SessionKNN()
    knn.fit(log, 0)
    ahead = knn.predict(shop(["abc", "abd", "abd", "xyz", "ab"])).next_items
    assert ahead is not None
    assert names_of(log, ahead[-1])[:3] == "adc"
    log = shop(["aab", "aac"])
    knn.fit(log, 0)
    ahead = knn.predict(log).next_items
    assert ahead is not None
    assert names_of(log, ahead[0])[0] == "a"


def test_a_tree_sees_what_naive_bayes_cannot() -> None:
    """The class is whether two coins differ: each alone says nothing, both together all."""
    rng = np.random.default_rng(0)
    coins = rng.integers(0, 2, (600, 3))
    label = (coins[:, 0] != coins[:, 1]).astype(np.int64)
    p = _Network(coins, label, 2, np.array([0.5, 0.5]))(coins)[:, 1]
    assert p[label == 1].min() > 0.9
    assert p[label == 0].max() < 0.1


def test_conditional_information_by_hand() -> None:
    """Of two equal coins it is log 2 in nats, of independent ones 0, in every class."""
    equal = np.stack([np.eye(2) * 0.25, np.eye(2) * 0.25])
    assert _conditional_information(equal) == pytest.approx(np.log(2))
    assert _conditional_information(np.full((2, 2, 2), 0.125)) == pytest.approx(0)


def test_a_correction_holds_the_level() -> None:
    """The mean stays that of the log; a score that ranks the wrong way becomes the prior; one that is too sure is toned down."""
    rng = np.random.default_rng(0)
    log = shop([letter for letter in "ab" * 300], buys={s for s in range(600) if rng.random() < (0.5 if s % 2 else 0.1)})
    asked = log.purchase != UNKNOWN
    score = np.where(log.item == 1, 0.999, 0.001)
    right, wrong = LateCorrection(score, log, 0.3), LateCorrection(1 - score, log, 0.3)
    assert right(score)[asked].mean() == pytest.approx(0.3, abs=1e-6)
    assert right(score)[log.item == 1].max() == pytest.approx(0.5, abs=0.07)
    assert wrong(1 - score) == pytest.approx(0.3)


def test_lists() -> None:
    """The best first, among equals the smaller number, then popular ones; never an item twice."""
    from scipy import sparse

    scores = sparse.csr_matrix(np.array([[0, 2.0, 5.0, 2.0], [0, 0, 0, 0]]))
    listed = top_items(scores, np.array([2, 0, -1]))
    assert listed[0].tolist() == [2, 1, 3, 0] + [-1] * 16
    assert listed[1].tolist() == [2, 0] + [-1] * 18
    many = np.random.default_rng(0).permutation(50).astype(float)[None] + 1
    assert top_items(sparse.csr_matrix(many), np.zeros(0, np.int64))[0].tolist() == np.argsort(-many[0])[:20].tolist()
    assert most_popular(np.array([3, 3, 1, UNKNOWN, 1, 0]), 5)[:4].tolist() == [1, 3, 0, -1]
    assert to_classes(np.array([0, 7, UNKNOWN, 2]), 3).tolist() == [0, 2, UNKNOWN, 2]


def test_features_rest_on_the_session_so_far() -> None:
    """Sums start anew in each session and take in the event itself."""
    log = shop(["aab", "ca"])
    table = dict(zip(FEATURES, features(log).T, strict=True))
    assert np.expm1(table["items_so_far"]) == pytest.approx([1, 1, 2, 1, 2])
    assert np.expm1(table["so_far_view"]) == pytest.approx([1, 2, 3, 1, 2], rel=1e-6)
    assert table["same_item"].tolist() == [0, 1, 0, 0, 0]


def test_tables_hold_every_event_once() -> None:
    """Sessions and prefixes alike, in any order, none mixed with another's."""
    log = shop(["abcab", "a", "bc", "cccccc"] * 5)
    for rng in (None, np.random.default_rng(0)):
        seen = np.concatenate([table[table >= 0] for table in session_tables(log, 9, rng)])
        assert sorted(seen.tolist()) == list(range(len(log)))
        asked = []
        for table, events in prefix_tables(log, 3, 9, rng):
            asked += events.tolist()
            for row, event in zip(table, events, strict=True):
                inside = row[row >= 0]
                assert inside.tolist() == list(range(event - len(inside) + 1, event + 1))
                assert len(inside) == min(log.position[event], 3)
        assert sorted(asked) == list(range(len(log)))
    assert last_events(log, 3)[2].tolist() == [2, 1, 0]
    assert last_events(log, 3)[5].tolist() == [5, -1, -1]


def test_the_joint_loss_by_scikit_learn() -> None:
    """The tasks' log-losses over the events, weighted; what is not known adds nothing, and counts among the events."""
    rng = torch.Generator().manual_seed(0)
    outputs = Outputs(*(torch.randn(size, generator=rng) for size in ((6,), (6, 9), (6, 3), (6, 4))))
    items, bias = torch.randn((5, 4), generator=rng), torch.randn(5, generator=rng)
    targets = Targets(*(torch.tensor(label) for label in (
        [1, 0, -1, 0, 1, -1], [0, 8, -1, 3, 3, 0], [-1, 2, 0, 1, 1, -1], [4, -1, 0, 1, -1, 2])))  # fmt: skip
    expected = 0.0
    logits = {"purchase": None, "type": outputs.type, "category": outputs.category, "item": outputs.query @ items.T + bias}
    for (name, scores), label in zip(logits.items(), targets, strict=True):
        known = label.numpy() >= 0
        if scores is None:
            p = torch.sigmoid(outputs.purchase.double()).numpy()
            expected += log_loss(label.numpy()[known], p[known], normalize=False)
        else:
            p = torch.softmax(scores.double(), dim=-1).numpy()[known]
            weight = {"type": 1.0, "category": 0.3, "item": 1.0}[name]
            expected += weight * log_loss(label.numpy()[known], p, normalize=False, labels=np.arange(p.shape[1]))
    assert float(loss_of(outputs, items, bias, targets, np.arange(6))) == pytest.approx(expected / 6, rel=1e-5)


def test_negative_sampling_by_hand() -> None:
    """-log sigmoid(u.v) - sum log sigmoid(-u.n), the mean over the pairs (Mikolov 2013, equation 4)."""
    torch.manual_seed(0)
    model = _SkipGram(6)
    torch.nn.init.normal_(model.outer.weight)
    item, other, negative = torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([[4, 5], [0, 4]])
    inner, outer = model.inner.weight.detach().numpy(), model.outer.weight.detach().numpy()
    loss = 0.0
    for a, b, others in zip([0, 1], [2, 3], [[4, 5], [0, 4]], strict=True):
        loss += np.log1p(np.exp(-inner[a] @ outer[b])) + sum(np.log1p(np.exp(inner[a] @ outer[n])) for n in others)
    assert float(model.loss(item, other, negative).detach()) == pytest.approx(loss / 2, rel=1e-5)


def test_propagation_by_matrices() -> None:
    """GCN is D^-1/2 (A + I) D^-1/2 x; GAT a softmax over the neighbours, weighted by how often they go together."""
    log = shop(["abc", "ab", "db"])
    edges = Edges(log)
    counts = np.eye(4)
    for a, b, times in ((0, 1, 2), (1, 2, 1), (3, 1, 1)):
        counts[a, b] = counts[b, a] = times
    x = torch.randn((4, 32), generator=torch.Generator().manual_seed(0))
    degree = counts.sum(axis=1)
    expected = (counts / np.sqrt(degree[:, None] * degree)) @ x.numpy()
    assert Convolution(edges)(x).numpy() == pytest.approx(expected, abs=1e-5)
    torch.manual_seed(0)
    layer = Attention(edges)
    with torch.no_grad():
        score = (layer.sender(x) + layer.receiver(x).T).numpy()  # [from, to]
        score = np.where(score > 0, score, 0.2 * score)
        power = np.exp(score) * counts
        expected = (power / power.sum(axis=0)).T @ x.numpy()
        assert layer(x).numpy() == pytest.approx(expected, abs=1e-5)
