"""What the truth's own kind of model comes to when it has to be fitted to the same log: hardly can a learner ask for more.

Expectation maximisation from the true parameters on, which even knows how many states and groups of categories there are. What it
lacks of the truth is what the log's sessions do not tell.
"""

from itertools import islice

import numpy as np

from tests.benchmarks.learning.measure import Doubles
from tests.benchmarks.learning.sets import SetSpec, SimulatedSet, shop_of
from training.simulator.fit import iterations, numbering
from training.simulator.observe import Observation, Session, observe, sessions_of
from training.simulator.shop import Shop
from training.simulator.tables import SESSION_GAP_S, tables_of
from training.simulator.truth import purchase_probability
from worker.contract.features import hash64

_ITERATIONS = 60


def fitted_to_the_log(spec: SetSpec, data: SimulatedSet, seed: int) -> Doubles:
    """Scores of the judging events [n] by a shop of the same kind, fitted to the sessions that had ended before they begin."""
    shop = shop_of(spec, seed)
    sessions = sessions_of(data.events)
    ended = [session for session in sessions if session[-1].event_time < data.until_ms - SESSION_GAP_S * 1000]
    observed = _observe(ended, shop).observed
    for better, _ in islice(iterations(shop, observed), _ITERATIONS):
        shop = better
    seen = _observe(sessions, shop)
    p = purchase_probability(tables_of(shop), seen.observed)
    places = zip(seen.session.tolist(), seen.step.tolist(), strict=True)
    hashes = np.array([hash64("event", sessions[session][step].event_id) for session, step in places], np.uint64)
    return p[data.places_in(hashes)]


def _observe(sessions: list[Session], shop: Shop) -> Observation:
    numbers = numbering(sessions, shop)
    return observe(sessions, {name: shop.categories[number].group for name, number in numbers.items()}, numbers)
