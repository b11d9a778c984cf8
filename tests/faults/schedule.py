"""What happens in one simulation, all of it drawn from a seed: clicks, workers, and what befalls them."""

import random
from typing import Literal, NamedTuple

from tests.faults.clicks import PARTITIONS, SENT_WITHIN_S, Sent, draw_clicks
from tests.faults.network import FAILPOINTS
from tests.logs import FORGETFUL
from tests.logs import WIDE as SPEC
from worker.settings import SessionSettings, Settings, TopicSettings, WorkerSettings

SETTINGS = Settings(
    topics=TopicSettings(partitions=PARTITIONS),
    session=SessionSettings(
        gap_s=FORGETFUL.gap_ms / 1000, grace_s=FORGETFUL.grace_ms / 1000, forget_s=FORGETFUL.forget_ms / 1000, window=SPEC.window
    ),
    worker=WorkerSettings(drain_s=0.3),
)
#: How long faults happen, in virtual seconds. Then everything heals.
FAULTS_S = SENT_WITHIN_S

__all__ = ["FAULTS_S", "SETTINGS", "SPEC", "Fault", "Kind", "Schedule", "draw"]

Kind = Literal["crash", "pause", "start", "stop", "away", "compact", "wake"]
_KINDS: tuple[Kind, ...] = (
    "crash",
    "crash",
    "crash",
    "pause",
    "pause",
    "pause",
    "start",
    "stop",
    "away",
    "compact",
    "compact",
    "wake",
)
#: What may happen where nothing fails, and how many schedules are like that.
_CALM: tuple[Kind, ...] = ("start", "stop", "compact")
_CALM_SHARE = 0.15
_EXACTLY_ONCE_SHARE = 0.25


class Fault(NamedTuple):
    """One thing that happens at `at_s`. `worker` counts those alive then; `failpoint` is where, empty for at once."""

    at_s: float
    kind: Kind
    worker: int = 0
    failpoint: str = ""
    for_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.at_s:6.3f} {self.kind} worker {self.worker} at {self.failpoint or 'once'} for {self.for_s:.2f} s"


class Schedule(NamedTuple):
    """A simulation to run."""

    seed: int
    clicks: list[Sent]
    workers: int
    unruly: float  # share of requests that are lost, late or answered in vain
    faults: list[Fault]
    exactly_once: bool = False

    @property
    def settings(self) -> Settings:
        """What the workers are told. In one of three nearly all sessions are cold, in one of two users are followed."""
        worker = SETTINGS.worker.model_copy(update={"delivery": "exactly_once"}) if self.exactly_once else SETTINGS.worker
        state = SETTINGS.state.model_copy(update={"hot_sessions": None if self.seed % 3 else 1})
        session = SETTINGS.session.model_copy(update={"follow_users": self.seed % 2 == 1})
        return SETTINGS.model_copy(update={"worker": worker, "state": state, "session": session})

    @property
    def calm(self) -> bool:
        """Whether nothing fails: workers only come and go."""
        return not self.unruly and all(fault.kind in ("start", "stop", "compact") for fault in self.faults)


def draw(seed: int) -> Schedule:
    """The schedule of a seed."""
    dice = random.Random(seed)
    clicks = draw_clicks(dice, dice.randint(10, 40))
    kinds: tuple[Kind, ...] = _CALM if dice.random() < _CALM_SHARE else _KINDS
    faults = sorted(_fault(dice, dice.choice(kinds)) for _ in range(dice.randint(1, 8)))
    unruly = 0.0 if kinds is _CALM else dice.choice((0.0, 0.0, 0.05, 0.15))
    return Schedule(seed, clicks, dice.randint(1, 3), unruly, faults, exactly_once=dice.random() < _EXACTLY_ONCE_SHARE)


def _fault(dice: random.Random, kind: Kind) -> Fault:
    at_s, worker = dice.uniform(0.0, FAULTS_S), dice.randrange(3)
    match kind:
        case "crash":
            return Fault(at_s, kind, worker, dice.choice(FAILPOINTS))
        case "pause":  # half of them for longer than the group waits
            return Fault(at_s, kind, worker, dice.choice(FAILPOINTS), dice.choice((0.1, 0.3, 0.6, 0.9, 1.4)))
        case "away":
            return Fault(at_s, kind, for_s=dice.choice((0.05, 0.3, 0.7)))
        case _:
            return Fault(at_s, kind, worker)
