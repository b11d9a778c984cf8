"""Fine-tuning: a few careful steps on fresh events, mixed with replayed old ones so that nothing is forgotten."""

from training.calibrate import calibrate, follow_level
from training.examples import Examples
from training.model import IntentModel
from training.next_items import added, count
from training.serving import ServingModel
from training.train import Progress, Recipe, optimise, reproducible
from training.version import LoadedVersion

#: Passes over the fresh events, within these bounds: a handful must not be learned by heart, a flood must not take hours.
_EPOCHS, _MIN_STEPS, _MAX_STEPS = 3, 50, 2000


def fine_tune(
    champion: LoadedVersion,
    fresh: Examples,
    replay: Examples,
    calibration: Examples,
    *,
    seed: int = 0,
    steps: int | None = None,
    batch_events: int = 384,
    replay_share: float = 0.5,
    learning_rate: float = 5e-4,
    freeze_layers: int = 0,
    progress: Progress | None = None,
) -> ServingModel:
    """The champion after `steps` steps on `fresh` and `replay`, calibrated anew on `calibration`; the champion stays as it is.

    Of each batch of about `batch_events` events the share `replay_share` comes from `replay` (none when it is empty).
    `freeze_layers` keeps that many layers of the trunk, from below, as they are, and with them how types and numbers enter
    it; the filter of intents stays in any case. Rates by id are taken anew, shrunk to the champion's;
    which item follows which is counted on. Without `steps`
    there are as many as make three passes over `fresh`, at least 50 and at most 2,000. Without any `calibration` examples
    only the level is calibrated anew, which all new sessions tell. For a control that only optimises further give old
    examples as `fresh`.

    The three sets must have the champion's spec. Deterministic by `seed`. Raises ModelError when the weights cannot be loaded,
    ValueError when nothing is fresh.
    """
    if not len(fresh):
        raise ValueError("nothing fresh to learn from")
    reproducible(seed)
    model = champion.serving_model()
    _freeze(model.network, freeze_layers)
    model.network.features.rates.fit(fresh.joined(replay))
    from_replay = round(batch_events * replay_share) if len(replay) else 0
    if steps is None:
        steps = min(max(_EPOCHS * -(-len(fresh.predicted) // (batch_events - from_replay)), _MIN_STEPS), _MAX_STEPS)
    optimise(
        model.network,
        [fresh, replay],
        [batch_events - from_replay, from_replay],
        steps=steps,
        recipe=Recipe(learning_rate=learning_rate, batch_events=batch_events, pretrain=0.0),
        seed=seed,
        progress=progress,
    )
    network = model.network.requires_grad_(True)
    calibrated = calibrate(network, calibration, prior=model.calibration)
    # The newest sessions alone have few known labels: the level is told by all that are new.
    calibrated = follow_level(network, calibrated, fresh.joined(calibration))
    candidates = model.candidates.merged(fresh.items)
    counted = added(model.next_items.counts(model.candidates, candidates), count(fresh, candidates))
    return ServingModel(network, calibrated, candidates, model.next_items.fitted_to(counted, candidates)).eval()


def _freeze(network: IntentModel, layers: int) -> None:
    if not layers:
        return
    frozen = [*list(network.trunk.get_submodule("layers").children())[:layers], network.types, network.numbers_in]
    for part in frozen:
        part.requires_grad_(False)
