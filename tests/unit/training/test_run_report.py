"""The report of a training: one file that stands alone."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.unit.training.shop import on_one_partition, random_log
from training.architecture import Architecture
from training.evaluate import Judged
from training.examples import examples_of
from training.history import fold_log
from training.make_version import Learned, describe, learn
from training.run import Run
from training.run_report import _bins, write_report
from training.train import Recipe
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy
from worker.errors import ConfigurationError

SPEC = FeatureSpec(window=16, item_buckets=64, category_buckets=16, brand_buckets=16)
SMALL = Architecture(width=16, layers=1, heads=2, feed_forward=16, item_width=8, category_width=4)


def written(folder: Path, visitors: int) -> tuple[str, Learned]:
    examples = examples_of(fold_log(on_one_partition(random_log(0, 12 * visitors, visitors)), SPEC, SessionPolicy()))
    run = Run(folder / "v")
    learned = learn(examples, architecture=SMALL, recipe=Recipe(epochs=1, min_steps=7), run=run)
    data = describe(examples, "a <shop> & its log.jsonl")
    write_report(folder / "new" / "report.html", "Version 1", data, run.curves, learned.held_out)
    return (folder / "new" / "report.html").read_text(), learned


class Page(HTMLParser):
    """What would be fetched, and what was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append(tag)
        self.fetched += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v and not v.startswith("#")]


@pytest.mark.slow
def test_a_report_stands_alone_and_tells_of_data_curves_and_calibration(tmp_path: Path) -> None:
    """Nothing to fetch, no script; names of files are no HTML."""
    text, learned = written(tmp_path, 40)
    page = Page(text)
    assert page.fetched == []
    assert not {"script", "link", "img", "iframe"} & set(page.opened)
    assert page.opened.count("svg") == 2
    assert "a &lt;shop&gt; &amp; its log.jsonl" in text
    for said in ("without-3", "cart, events 5 to 8", "churn", "event 10", "What could not be learned", "last"):
        assert said in text, said
    value = learned.metrics["held_out"]["purchase"]["session"]["log_loss"]
    assert f"<td>{value:.4f} [" in text, "the figures of the manifest"


def test_of_few_sessions_it_says_that_nothing_is_known(tmp_path: Path) -> None:
    """It does not judge on what was trained on."""
    text, _ = written(tmp_path, 8)
    assert "of so few sessions none was left out" in text
    assert Page(text).opened.count("svg") == 1


def test_a_report_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("a file in its place")
    with pytest.raises(ConfigurationError, match="the report cannot be written"):
        written(tmp_path, 8)


def test_a_bin_holds_its_mean_probability_and_its_share_of_positives() -> None:
    """Against a plain account; the interval holds the value."""
    rng = np.random.default_rng(0)
    p, session = rng.uniform(0, 1, 400), np.arange(400)
    judged = Judged("purchase.session", session, session, session * 0 + 1, (rng.uniform(0, 1, 400) < p).astype(np.int64), p)
    said, seen = _bins(judged, p < 0.8)
    order = np.argsort(-p)
    order = order[p[order] < 0.8]
    for k, at in enumerate(np.array_split(order, 10)):
        assert said[k] == pytest.approx(p[at].mean(), abs=0.01)
        assert seen[k][0] == pytest.approx(judged.label[at].mean(), abs=0.05)
        assert seen[k][1] <= seen[k][0] <= seen[k][2]
    assert _bins(judged, p > 2) == ([], [])
