"""Training from scratch: a fixed recipe without early stopping, the same for any data, deterministic by its seed."""

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch.nn import functional as F

from training.architecture import Architecture
from training.checkpoint import Checkpoint, Training
from training.device import Device, Network, best_device
from training.distributed import add_up
from training.examples import Examples
from training.labels import UNKNOWN, Bools
from training.losses import LossWeights, loss_of, session_targets
from training.model import PLACES, Heads, IntentModel, places_of
from training.sampler import Sampler
from training.wide import fit_wide, start_at_filter
from worker.contract.events import EVENT_TYPES, HORIZONS
from worker.contract.features import ModelInputs

log = logging.getLogger(__name__)

#: Batches are too small for more to help, beside others more are far slower, and one always sums in the same order.
THREADS = 1
#: Events of all places that are worth as much as those of one place when it is said how sessions go on there.
_PRIOR_EVENTS = 20.0

#: Events looked at at once where no step is made; and in all, of a larger log by chance, when features are standardised: their
#: means are known well enough, and each event takes a kilobyte.
_FIT_EVENTS = 4096
_MOST_FIT_EVENTS = 500_000

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Recipe:
    """How the network is trained. A step is one batch of about `batch_events` events.

    `trace` is the lambda of the session's targets (see `session_targets`), `average` the share of the running mean of the
    weights that a step keeps. Before those steps come the share `pretrain` of as many, which learn from the next event only.
    """

    epochs: int = 3
    min_steps: int = 100
    max_steps: int = 20_000
    batch_events: int = 384
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warm_up: float = 0.1
    clip: float = 1.0
    weights: LossWeights = field(default_factory=LossWeights)
    trace: float = 0.9
    average: float = 0.99
    pretrain: float = 0.25
    pretrain_weights: LossWeights = field(default_factory=lambda: LossWeights(purchase=0, cart=0, next_category=0.3, pause=0.3))


def train(
    examples: Examples,
    *,
    seed: int = 0,
    architecture: Architecture | None = None,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    device: Device | None = None,
) -> IntentModel:
    """A network fitted to the examples, in evaluation mode. `progress(step, steps, loss)` is called after each step.

    With a `checkpoint` it goes on from there; the result is the same to the bit. `device`: see `optimise`.
    """
    recipe = recipe or Recipe()
    reproducible(seed)
    model = IntentModel(examples.spec, architecture or Architecture())
    if not len(examples):
        return model.eval()
    # Always, as no version and no checkpoint holds the rates that leave out a part.
    model.features.rates.fit(examples)
    if checkpoint is None or not checkpoint.found():
        model.features.intents.fit(examples, model.features.rates, seed)
        model.features.fit(_enough(examples, seed))
        _start_at_priors(model, examples)
        fit_wide(model, examples, seed)
        happened = (examples.link[examples.predicted, :, HORIZONS.index("session")] == 1).any(axis=0)
        start_at_filter(model, np.flatnonzero(happened).tolist())
    steps = max(round(recipe.epochs * len(examples.predicted) / recipe.batch_events), recipe.min_steps)
    steps = min(steps, max(recipe.max_steps, recipe.min_steps))
    sizes = [recipe.batch_events]
    optimise(
        model, [examples], sizes, steps=steps, recipe=recipe, seed=seed, progress=progress, checkpoint=checkpoint, device=device
    )
    return model


def _enough(examples: Examples, seed: int) -> list[tuple[ModelInputs, Bools]]:
    """Inputs and which of them are predicted: all, or about `_MOST_FIT_EVENTS` by chance."""
    rng = np.random.default_rng(seed) if len(examples.predicted) > _MOST_FIT_EVENTS else None
    some = islice(examples.batches(_FIT_EVENTS, rng), max(_MOST_FIT_EVENTS // _FIT_EVENTS, 1) if rng else None)
    return [(batch.inputs, batch.predict) for batch in some]


def optimise(
    model: IntentModel,
    sources: list[Examples],
    sizes: list[int],
    *,
    steps: int,
    recipe: Recipe,
    seed: int,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    device: Device | None = None,
) -> None:
    """`steps` steps of AdamW in place, and before them those of pretraining with an optimiser of their own; each takes about
    `sizes[i]` events of `sources[i]` and adds up their losses by size.

    Only parameters that ask for gradients move. The steps are made on the `device`, by default the best there is; before and
    after them the network is in the processor's memory. Leaves it in evaluation mode.
    """
    device = device or best_device()
    model.to(device.where)
    pretraining = round(recipe.pretrain * steps)
    average = copy.deepcopy(model).eval()
    training = Training(model, average, *_optimiser(model, pretraining or steps, recipe), Sampler(sources, sizes, seed))
    if checkpoint is not None and checkpoint.found():
        checkpoint.restore(training)
    elif checkpoint is not None:
        checkpoint.write(training)
    model.train()
    networks = device.compiled(model), device.compiled(average)
    with device.steps():
        for step in range(len(training.losses) + 1, pretraining + steps + 1):
            pretrains = step <= pretraining
            at = step if pretrains else step - pretraining
            if pretraining and step == pretraining + 1:
                model.load_state_dict(average.state_dict())
                training.optimiser, training.schedule = _optimiser(model, steps, recipe)
            weights = recipe.pretrain_weights if pretrains else recipe.weights
            training.losses.append(_step(training, recipe, weights, device, *networks))
            _follow(average, model, min(recipe.average, at / (9 + at)))
            if checkpoint is not None and checkpoint.due(step, pretraining + steps):
                checkpoint.write(training)
            if progress is not None:
                progress(step, pretraining + steps, training.losses[-1])
    model.load_state_dict(average.state_dict())
    model.to("cpu").eval()


def _optimiser(
    model: IntentModel, steps: int, recipe: Recipe
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """A new one for so many steps, and the schedule of its rate."""
    optimiser = torch.optim.AdamW(_groups(model, recipe.weight_decay), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        recipe.learning_rate,
        total_steps=steps + 1,
        pct_start=recipe.warm_up,
        cycle_momentum=False,
        final_div_factor=100,
    )
    return optimiser, schedule


def _step(training: Training, recipe: Recipe, weights: LossWeights, device: Device, network: Network, average: Network) -> float:
    """One step of the network; its loss before that. `network` and `average` are what to call in place of the training's."""
    model, value = training.model, 0.0
    training.optimiser.zero_grad()
    for batch, share in next(training.sampler):
        inputs = [tensor.to(device.where) for tensor in (*tensors(batch.inputs), torch.from_numpy(batch.fold))]
        expected = None
        with device.precision():
            if recipe.trace < 1 and weights.of_sessions:
                with torch.no_grad():
                    expected = session_targets(average(*inputs).link.float(), batch, recipe.trace)
            # Differences of log-losses are finer than what bfloat16 holds.
            heads = Heads(*(head.float() for head in network(*inputs)))
            loss = loss_of(model, heads, batch, weights, expected) * share
        loss.backward()  # type: ignore[no-untyped-call]
        value += float(loss.detach())
    value = add_up(model, value)
    # What does not move may still hold the gradients of its own fit.
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], recipe.clip)
    training.optimiser.step()
    training.schedule.step()
    return value


@torch.no_grad()
def _follow(average: IntentModel, model: IntentModel, keep: float) -> None:
    """Move the running mean of the weights on by one step."""
    for mean, now in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(now, 1 - keep)


def reproducible(seed: int) -> None:
    """The same numbers on every run of one machine."""
    torch.manual_seed(seed)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)


def tensors(inputs: ModelInputs) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and numbers as the network takes them."""
    return torch.from_numpy(inputs.codes), torch.from_numpy(inputs.numbers)


def _groups(model: IntentModel, weight_decay: float) -> list[dict[str, object]]:
    """Matrices and tables are decayed; biases and norms are not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


@torch.no_grad()
def _start_at_priors(model: IntentModel, examples: Examples) -> None:
    """Biases at the log-odds of the data: the network starts as the best constant and learns only what differs."""
    rows = examples.predicted
    link = examples.link[rows].reshape(len(rows), -1)
    positive, known = (link == 1).sum(0), (link != UNKNOWN).sum(0)
    model.link.bias.copy_(_log_odds(positive, known))
    churn = examples.labels.churn[rows]
    model.churn.bias.copy_(_log_odds((churn == 1).sum(keepdims=True), (churn != UNKNOWN).sum(keepdims=True)))
    types = examples.labels.next_type[rows]
    counts = np.bincount(types[types != UNKNOWN], minlength=len(EVENT_TYPES)) + 0.1
    model.next_type.bias.copy_(F.log_softmax(torch.from_numpy(np.log(counts)), dim=0))
    place = places_of(torch.from_numpy(examples.rows["numbers"][rows])).numpy()
    ended = np.where(churn == UNKNOWN, UNKNOWN, churn == 1)
    at_place = _log_shares(place, ended, 2)
    model.churn_at.weight.copy_(at_place[:, 1:] - at_place[:, :1])
    model.next_type_at.weight.copy_(_log_shares(place, examples.labels.next_type[rows], len(EVENT_TYPES)))
    items = examples.labels.next_item[rows]
    items = model.item_rows(torch.from_numpy(items[items != UNKNOWN])).numpy()
    seen = np.bincount(items, minlength=len(model.item_bias)) + 0.1
    bias = torch.from_numpy(np.log(seen / seen.sum()))
    model.item_bias[1:] = bias[1:].to(model.item_bias.dtype)


def _log_shares(place: np.ndarray, label: np.ndarray, classes: int) -> torch.Tensor:  # type: ignore[type-arg]
    """[PLACES, classes]: log of each class's share at a place over its share at all; 0 where a place is not known."""
    known = label != UNKNOWN
    counts = np.zeros((PLACES, classes))
    np.add.at(counts, (place[known], label[known]), 1.0)
    overall = (counts.sum(0) + 0.1) / (counts.sum(0) + 0.1).sum()
    share = (counts + _PRIOR_EVENTS * overall) / (counts.sum(1, keepdims=True) + _PRIOR_EVENTS)
    return torch.from_numpy(np.log(share / overall)).float()


def _log_odds(positive: np.ndarray, known: np.ndarray) -> torch.Tensor:  # type: ignore[type-arg]
    """Log-odds with a little doubt: where nothing is known it is one in a thousand, never one in two."""
    p = (positive + 0.05) / (known + 50.0)
    return torch.from_numpy(np.log(p / (1 - p))).float()
