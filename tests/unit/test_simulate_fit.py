"""The fit: from events back to a shop."""

import os
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from training.read import EventFiles
from training.simulate import InvalidShop, Shop, load_shop, simulate
from training.simulator.fidelity import fidelity
from training.simulator.fit import fit_shop, iterations, numbering
from training.simulator.observe import Session, observe, sessions_of
from training.simulator.shop import Category, Checkout, Group, State
from training.simulator.skeleton import REST
from training.simulator.tables import tables_of
from training.simulator.truth import purchase_probability
from worker.contract.events import ClickEvent, EventType

pytestmark = pytest.mark.slow

START_MS = 1_767_571_200_000
MINUTE_MS = 60_000

TWO_STATES = Shop(
    name="two",
    source="made up",
    states=(
        State("idle", {"view": 0.9, "search": 0.1}, 5.0, 0.8, (0.85, 0.1, 0.05), 0.5, 0.8, 0.004, 0.196),
        State("keen", {"view": 0.6, "search": 0.05, "cart": 0.35}, 2.5, 0.6, (0.2, 0.5, 0.3), 0.95, 0.8, 0.1, 0.1),
    ),
    transitions=((0.93, 0.07), (0.12, 0.88)),
    groups=(Group("a", (0.95, 0.05), 0.4), Group("b", (0.7, 0.3), -0.4)),
    categories=(Category("a", 0, 0.6, 40, 3, 3.0, 0.5), Category("b", 1, 0.4, 40, 3, 4.0, 0.5)),
    checkout=Checkout(4.0, 0.5, 0.2),
)


@pytest.fixture(scope="module")
def sessions() -> list[Session]:
    return sessions_of(simulate(TWO_STATES, 6_000, 1, START_MS, hours=200).events())


@pytest.fixture(scope="module")
def fitted(sessions: list[Session]) -> Shop:
    return fit_shop(sessions, name="again", source="simulated", states=(2,), restarts=2).shop


def test_fit_finds_the_states_again(sessions: list[Session], fitted: Shop) -> None:
    """From a shop's own sessions, the fit recovers its gaps, outcomes and types, the less ready state first."""
    for found, true in zip(fitted.states, TWO_STATES.states, strict=True):
        assert found.gap_mu == pytest.approx(true.gap_mu, abs=0.1)
        assert found.gap_sd == pytest.approx(true.gap_sd, abs=0.1)
        assert found.purchase == pytest.approx(true.purchase, abs=0.025)
        assert found.proceed == pytest.approx(true.proceed, abs=0.03)
        assert found.stay == pytest.approx(true.stay, abs=0.04)
        assert found.repeat == pytest.approx(true.repeat, abs=0.06)
        assert found.types.get("cart", 0) == pytest.approx(true.types.get("cart", 0), abs=0.04)


def test_fitted_filter_is_close_to_the_truth(fitted: Shop) -> None:
    """On new sessions the fitted shop's p is close to the true one: its error is a small part of p's spread."""
    fresh = simulate(TWO_STATES, 3_000, 2, START_MS, hours=100)
    sessions = sessions_of(fresh.events())
    names = numbering(sessions, fitted)
    observation = observe(sessions, {c: fitted.categories[i].group for c, i in names.items()}, names)
    found = purchase_probability(tables_of(fitted), observation.observed)
    truth = fresh.truth_by_id()
    places = zip(observation.session.tolist(), observation.step.tolist(), strict=True)
    true = np.array([truth[sessions[session][step].event_id] for session, step in places])
    assert np.sqrt(np.mean((found - true) ** 2)) < 0.15 * true.std()


def test_every_iteration_is_better(sessions: list[Session], fitted: Shop) -> None:
    """The log-likelihood rises from iteration to iteration, up to what the priors take."""
    names = numbering(sessions, fitted)
    observed = observe(sessions, {c: fitted.categories[i].group for c, i in names.items()}, names).observed
    idle, keen = fitted.states
    start = replace(fitted, states=(replace(idle, gap_mu=4.2, stay=0.6), replace(keen, gap_mu=3.4, stay=0.7)))
    values = [value for _, value in islice(iterations(start, observed), 25)]
    assert values[-1] > values[0] + 100
    assert all(after > before - 0.5 for before, after in pairwise(values))


def test_bic_prefers_as_many_states_as_there_are(sessions: list[Session]) -> None:
    """Of one, two and three states, two are chosen."""
    fit = fit_shop(sessions[:1_500], name="again", source="simulated", states=(1, 2, 3), restarts=1)
    assert len(fit.shop.states) == 2
    assert fit.bic == min(fit.bic_by_states.values())


def test_fidelity_of_the_fitted_shop(sessions: list[Session], fitted: Shop) -> None:
    """Lengths, gaps, purchases and types of the fitted shop are those of the sessions, and p is calibrated on them."""
    report = fidelity(fitted, sessions)
    assert report.simulated.mean_length == pytest.approx(report.real.mean_length, rel=0.05)
    assert report.simulated.gap_p50_s == pytest.approx(report.real.gap_p50_s, rel=0.05)
    assert report.simulated.gap_p90_s == pytest.approx(report.real.gap_p90_s, rel=0.05)
    assert report.simulated.purchase_rate == pytest.approx(report.real.purchase_rate, abs=0.015)
    assert report.simulated.type_shares == pytest.approx(report.real.type_shares, abs=0.01)
    assert all(abs(each.z) < 3 for each in report.bins)
    assert report.log_loss < report.constant_log_loss


def test_fidelity_notices_another_shop(sessions: list[Session]) -> None:
    """The figures of a shop that the sessions are not from differ, and its p is not calibrated."""
    report = fidelity(
        replace(load_shop(), categories=(*load_shop().categories, Category(REST, 5, 0.1, 10, 1, 1.0, 1.0))), sessions
    )
    assert abs(report.simulated.gap_p50_s / report.real.gap_p50_s - 1) > 0.1
    assert max(abs(each.z) for each in report.bins) > 3


def test_sessions_end_after_half_an_hour_and_orders_are_one_event() -> None:
    """Gaps of half an hour split, purchases in a row are one, a late order stays with its session, a lone order is none."""
    sessions = sessions_of(
        [
            _event("v", 0, "view"),
            _event("v", 29, "purchase"),
            _event("v", 29, "purchase"),
            _event("v", 60, "view"),
            _event("w", 0, "purchase"),
            _event("x", 0, "view", session_id="s"),
            _event("x", 300, "purchase", session_id="s"),
        ]
    )
    assert [[event.event_type for event in session] for session in sessions] == [
        ["view", "purchase"],
        ["view", "purchase"],
        ["view"],
    ]


def test_types_can_be_left_out() -> None:
    """Events of the types named do not take part, not even in gaps."""
    events = [_event("v", 0, "view"), _event("v", 20, "cart"), _event("v", 40, "view")]
    assert len(sessions_of(events)) == 1
    assert [len(session) for session in sessions_of(events, without=frozenset({"cart"}))] == [1, 1]


def test_events_without_categories_cannot_be_fitted() -> None:
    """The error says what the fit needs."""
    with pytest.raises(InvalidShop, match="categories"):
        fit_shop(sessions_of([_event("v", 0, "view")]), name="x", source="x")


def test_a_real_shop_is_met() -> None:
    """Fitted to real sessions with trustworthy purchases, lengths, gaps and purchases come out within a few percent."""
    path = Path(os.environ.get("INKLING_TEST_DATA", "../shared/data")) / "diginetica.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no {path}: set INKLING_TEST_DATA")
    sessions = sessions_of(EventFiles([path]).events())
    report = fidelity(fit_shop(sessions, name="real", source=path.name, states=(4,), restarts=1).shop, sessions)
    assert report.simulated.mean_length == pytest.approx(report.real.mean_length, rel=0.04)
    assert report.simulated.gap_p50_s == pytest.approx(report.real.gap_p50_s, rel=0.05)
    assert report.simulated.gap_p90_s == pytest.approx(report.real.gap_p90_s, rel=0.05)
    assert report.simulated.purchase_rate == pytest.approx(report.real.purchase_rate, abs=0.005)


def _event(visitor: str, minute: int, event_type: EventType, session_id: str | None = None) -> ClickEvent:
    return ClickEvent(
        f"{visitor}-{minute}", START_MS + minute * MINUTE_MS, visitor, event_type, session_id=session_id, item_id="i"
    )
