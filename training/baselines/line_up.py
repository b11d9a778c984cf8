"""All baselines by name."""

from collections.abc import Callable
from functools import partial

from training.baselines.base import Baseline
from training.baselines.counting import Markov, Popularity, Prevalence
from training.baselines.linear import Logistic
from training.baselines.neighbours import SessionKNN
from training.baselines.networks import SessionNetwork, cnn, gru, lstm, mlp
from training.baselines.trees import LightGBM
from training.compare import Learner
from training.forecast import Forecast
from training.session_log import SessionLog

#: In the order of the leaderboard's table.
BASELINES: dict[str, Callable[[], Baseline]] = {
    "prevalence": Prevalence,
    "popularity": Popularity,
    "markov": Markov,
    "logistic": Logistic,
    "lightgbm": LightGBM,
    "mlp": partial(SessionNetwork, mlp),
    "cnn": partial(SessionNetwork, cnn),
    "gru": partial(SessionNetwork, gru),
    "lstm": partial(SessionNetwork, lstm),
    "session_knn": SessionKNN,
}


def learner(name: str, seed: int) -> Learner:
    """The baseline as a function of the log to learn from and the log to speak of."""

    def learn(earlier: SessionLog, log: SessionLog) -> Forecast:
        baseline = BASELINES[name]()
        baseline.fit(earlier, seed)
        return baseline.predict(log)

    return learn
