"""All baselines by name."""

from collections.abc import Callable
from functools import partial

from training.baselines.base import Baseline
from training.baselines.bayes import BayesianNetwork
from training.baselines.corrected import Corrected
from training.baselines.counting import Markov, Popularity, Prevalence
from training.baselines.item2vec import Item2Vec
from training.baselines.item_graph import Attention, Convolution, ItemGraph
from training.baselines.linear import Logistic
from training.baselines.masked_items import MaskedItems
from training.baselines.neighbours import SessionKNN
from training.baselines.networks import SessionNetwork, cnn, gru, lstm, mlp
from training.baselines.transformer import SessionTransformer
from training.baselines.trees import LightGBM
from training.compare import Learner
from training.forecast import Forecast
from training.session_log import SessionLog

#: In the order of the leaderboard's table.
BASELINES: dict[str, Callable[[], Baseline]] = {
    "prevalence": Prevalence,
    "popularity": Popularity,
    "markov": Markov,
    "bayes_net": BayesianNetwork,
    "logistic": Logistic,
    "lightgbm": LightGBM,
    "mlp": partial(SessionNetwork, mlp),
    "cnn": partial(SessionNetwork, cnn),
    "gru": partial(SessionNetwork, gru),
    "lstm": partial(SessionNetwork, lstm),
    "masked_items": partial(Corrected, MaskedItems),
    "item2vec": partial(Corrected, Item2Vec),
    "graph_gcn": partial(Corrected, partial(ItemGraph, Convolution)),
    "graph_gat": partial(Corrected, partial(ItemGraph, Attention)),
    "session_knn": SessionKNN,
    "transformer": SessionTransformer,
}


def learner(name: str, seed: int) -> Learner:
    """The baseline as a function of the log to learn from and the log to speak of."""

    def learn(earlier: SessionLog, log: SessionLog) -> Forecast:
        baseline = BASELINES[name]()
        baseline.fit(earlier, seed)
        return baseline.predict(log)

    return learn
