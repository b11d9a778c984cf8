"""A latent-intent filter: a hidden Markov model of what visitors do next, fitted to whole sessions.

Hidden Markov models of shop visits go back to Montgomery et al., "Modeling Online Browsing and Path Analysis Using Clickstream
Data" (2004). Every event teaches it, not only those few that precede a purchase, so a small log is enough. What it foresees is
where the network starts, and what it believes of a visitor's intent a feature of the network, which learns what else matters.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.examples import Batch, Examples
from training.packed import Packed
from training.rates import Rates
from worker.contract.events import EVENT_TYPES, HAZARD_HEADS
from worker.contract.features import CODES, NUMBERS, TYPE_CODE, FeatureSpec

_TYPE, _ITEM, _CATEGORY = (CODES.index(name) for name in ("type", "item", "category"))
_GAP, _POSITION, _REPEATS = (NUMBERS.index(name) for name in ("gap_s", "position", "repeats"))
#: Hidden intents. More than the data has cost little: some become alike.
STATES = 8
#: What an event shows: no item, a new one, one seen before, that of the event before.
_SHOWN = 4
#: Pauses are told apart by steps of this size in the log of seconds plus one, up to half an hour and more.
_PAUSE_STEP, _PAUSES = 0.5, 16
_TYPES = len(EVENT_TYPES)
#: Spread of what a state's habits may be expected to differ from all visitors' (log-odds, a normal prior).
_SPREAD = 1.0
#: Sessions mostly go on as they were.
_STAY = 2.0
#: Passes over the events, and steps at least and at most; a step takes a share of the events within these bounds.
_EPOCHS, _LEAST_STEPS, _MOST_STEPS, _RATE = 30, 20, 2000, 0.08
_BATCH_SHARE, _LEAST_EVENTS, _MOST_EVENTS = 40, 250, 1500
_LEAST = 1e-6
#: The state that buys, and what no other does; an emission that never happens, as a logit.
_BUYS, _NEVER = STATES - 1, -30.0
#: How much readier to buy a session may be (log-odds, either way), and for how many steps in between values are solved.
_MOST_READIER, _READIER_STEPS = 3.0, 25
#: Rows of a block of the filter, and how many factors between two scalings stay within what a float holds.
_BLOCK, _UNSCALED = 8, 4
_LEAST_FLOAT = 1e-30

#: What `IntentFilter` gives for each row: the belief in each state, and log-odds of purchase, cart and no further event.
BELIEFS = STATES + len(HAZARD_HEADS) + 1


class IntentFilter(nn.Module):
    """codes int64 [N, 10], numbers float [N, 18] -> [N, BELIEFS]; a row's depend on it and those before it in its session only.

    K states, each with its habits: type and item [K, 8 * 4], pause [K, 16], category kept or left [K, 2], what follows [K, K],
    going on [K]. The last state buys, and no other does, so a purchase may come of each. How the category of the first row does
    (`Rates`) tells its state, and how much readier to buy the visitor stays: so much is added to the log-odds of a purchase after
    each row.
    """

    usual_event: Tensor
    usual_pause: Tensor
    impossible: Tensor
    readiness: Tensor
    value: Tensor

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        self.rounds = rounds_for(spec.window)
        self.register_buffer("usual_event", torch.zeros(_TYPES * _SHOWN))
        self.register_buffer("usual_pause", torch.zeros(_PAUSES))
        self.register_buffer("impossible", _impossible())
        steps = torch.linspace(-_MOST_READIER, _MOST_READIER, _READIER_STEPS)
        self.register_buffer("readiness", steps, persistent=False)
        self.register_buffer("value", torch.full((_READIER_STEPS, STATES, len(HAZARD_HEADS)), 0.05))
        self.event = nn.Parameter(torch.zeros(STATES, _TYPES * _SHOWN))
        self.pause = nn.Parameter(torch.zeros(STATES, _PAUSES))
        self.keeps = nn.Parameter(torch.zeros(STATES))
        self.follows = nn.Parameter(_STAY * torch.eye(STATES))
        self.goes_on = nn.Parameter(torch.full((STATES,), 1.5))
        self.start = nn.Parameter(torch.zeros(STATES))
        self.start_by_rate = nn.Parameter(torch.zeros(len(HAZARD_HEADS), STATES))
        self.later_start = nn.Parameter(torch.zeros(STATES))
        self.readier_by_rate = nn.Parameter(torch.zeros(len(HAZARD_HEADS)))
        self.requires_grad_(False)

    def forward(self, codes: Tensor, numbers: Tensor, where: Packed, rates: Rates, fold: Tensor | None = None) -> Tensor:
        belief = self.filtered(codes, numbers, where, rates, fold, self.rounds)[0]
        readier = self._readier(codes, where, rates, fold)
        near = (1 - torch.abs(readier[:, None] - self.readiness) / (self.readiness[1] - self.readiness[0])).clamp(min=0.0)
        value = (near @ self.value.flatten(1)).reshape(-1, STATES, len(HAZARD_HEADS))  # [B, K, heads]
        by_state = torch.cat([value, self._leaving(readier)[..., None]], dim=-1).flatten(1)
        by_state = F.embedding(where.session, by_state).reshape(-1, STATES, len(HAZARD_HEADS) + 1)
        said = (belief[..., None] * by_state).sum(dim=1)
        return torch.cat([belief, torch.logit(said.clamp(_LEAST, 1 - _LEAST))], dim=-1)

    def filtered(
        self, codes: Tensor, numbers: Tensor, where: Packed, rates: Rates, fold: Tensor | None, rounds: int
    ) -> tuple[Tensor, Tensor]:
        """Belief [N, K] and the log-likelihood of the session's rows up to each [N]. `rounds`: see `rounds_for`.

        The recursion a_t = a_{t-1} (going on * what follows) * habits(x_t) is a product of matrices. Products of blocks of rows,
        all blocks at once, and a few rounds of doubling over the blocks (Blelloch, 1990) give the state that each block begins
        with; from there it is taken through the block's rows.
        """
        habit = self._habits(codes, numbers, where)  # [N, K], logs
        top = habit.amax(dim=-1, keepdim=True)
        readier = self._readier(codes, where, rates, fold)[:, None]
        habit = habit + F.pad(F.embedding(where.session, readier), (_BUYS, 0))
        moves, others = self._moves(), self._others(readier[:, 0])[:, None]
        # 1 blocks of rows, the last one filled up with rows that nothing follows
        steps = where.number.shape[1]
        count = (steps + _BLOCK - 1) // _BLOCK
        places = F.pad(where.number, (0, count * _BLOCK - steps)).reshape(-1, count, _BLOCK)
        rows = F.embedding(places, torch.exp(habit - top)).unbind(dim=2)  # _BLOCK of [B, count, K]
        # 2 the product of each block, up to the step into the next one: [K, B, count, K], by the state that it begins with
        identity = torch.eye(STATES, dtype=top.dtype, device=top.device)
        product, log = identity[:, None, None], torch.zeros_like(rows[0][..., 0])
        for k, row in enumerate(rows, start=1):
            product = (product * (row * others)) @ moves
            if k % _UNSCALED == 0:
                product, log = _scaled(product, log, (0, -1))
        product = product.permute(1, 2, 0, 3)
        # 3 products of all blocks before each
        identity = identity.expand(product.shape[0], 1, -1, -1)
        ahead, ahead_log = torch.cat([identity, product], dim=1)[:, :count], F.pad(log, (1, 0))[:, :count]
        for r in range(rounds):
            before = torch.cat([identity.expand(-1, 2**r, -1, -1), ahead], dim=1)[:, :count]
            ahead, ahead_log = _scaled(before @ ahead, ahead_log + F.pad(ahead_log, (2**r, 0))[:, :count], (-2, -1))
        # 4 the state that each block begins with goes through its rows
        starts = self._starts(codes.index_select(0, where.first), numbers.index_select(0, where.first), rates, fold)
        # Nothing went before the first row that a visitor could be readier after.
        starts = starts * F.pad(torch.exp(-readier), (_BUYS, 0), value=1.0)
        state = (starts[:, None, None] @ ahead)[:, :, 0]  # [B, count, K]
        states, logs = [], []
        for k, row in enumerate(rows):
            state = ((state * others) @ moves if k else state) * row
            if k % _UNSCALED == 0:
                state, ahead_log = _scaled(state, ahead_log, (-1,))
            states.append(state)
            logs.append(ahead_log)
        alpha = where.taken(torch.stack(states, dim=2).flatten(1, 2))  # [N, K]
        total = alpha.sum(dim=-1, keepdim=True).clamp(min=_LEAST_FLOAT)
        scale = where.taken(torch.stack(logs, dim=-1).flatten(1)) + where.summed(top)[:, 0]
        return alpha / total, scale + torch.log(total[:, 0])

    def _readier(self, codes: Tensor, where: Packed, rates: Rates, fold: Tensor | None) -> Tensor:
        """codes [N, 10] -> [B]: what is added to the log-odds of a purchase."""
        category = codes.index_select(0, where.first)[:, _CATEGORY]
        return (rates.of_category(category, fold) @ self.readier_by_rate).clamp(-_MOST_READIER, _MOST_READIER)

    def _moves(self) -> Tensor:
        """[K, K]: going on, to each state, of a visitor who is no readier than others."""
        return torch.sigmoid(self.goes_on)[:, None] * torch.softmax(self.follows, dim=-1)

    def _others(self, readier: Tensor) -> Tensor:
        """[B] -> [B, K]: what is left of all that does not buy, as a share, so that it and what buys add up to 1."""
        return 1 / (1 + self._moves()[:, _BUYS] * torch.expm1(readier)[:, None])

    def _leaving(self, readier: Tensor) -> Tensor:
        """[B] -> [B, K]: the probability that nothing follows."""
        return (1 - torch.sigmoid(self.goes_on)) * self._others(readier)

    def _events(self) -> Tensor:
        """[K, 8 * 4]: logs."""
        return torch.log_softmax(self.usual_event + self.event + self.impossible, dim=-1)

    def _habits(self, codes: Tensor, numbers: Tensor, where: Packed) -> Tensor:
        """[N, K]: log-likelihood of each row in each state."""
        given = known(numbers).T
        gap, position, repeats = given[_GAP], given[_POSITION], given[_REPEATS]
        columns, columns_before = codes.unbind(dim=-1), where.before(codes).unbind(dim=-1)
        item, category = columns[_ITEM], columns[_CATEGORY]
        kind = (columns[_TYPE] - 1).clamp(0, _TYPES - 1)
        first = position <= 1
        shown = torch.where(item == columns_before[_ITEM], 3, torch.where(repeats > 0, 2, 1)) * (item > 0)
        # A session's first event cannot show an item again: only its type tells.
        event = self._events()
        types = torch.logsumexp(event.reshape(STATES, _TYPES, _SHOWN), dim=-1)
        seen = F.embedding(torch.where(first, kind, _TYPES + kind * _SHOWN + shown), torch.cat([types, event], dim=-1).T)
        # Nor has it a pause, and it neither keeps nor leaves a category.
        nothing = torch.zeros_like(self.keeps)[:, None]
        steps = (torch.log1p(gap) / _PAUSE_STEP).long().clamp(0, _PAUSES - 1)
        pauses = torch.cat([nothing, torch.log_softmax(self.usual_pause + self.pause, dim=-1)], dim=-1)  # [K, 1 + 16]
        pause = F.embedding(torch.where(first, 0, steps + 1), pauses.T)
        free = ~first & (shown <= 1) & (category > 0) & (columns_before[_CATEGORY] > 0)
        keeps = torch.cat([nothing, F.logsigmoid(self.keeps)[:, None], F.logsigmoid(-self.keeps)[:, None]], dim=-1)  # [K, 3]
        kept = F.embedding(torch.where(category == columns_before[_CATEGORY], 1, 2) * free, keeps.T)
        return seen + pause + kept

    def _starts(self, codes: Tensor, numbers: Tensor, rates: Rates, fold: Tensor | None) -> Tensor:
        """codes [B, 10], numbers [B, 18] -> [B, K]: the state of windows' first rows, which may be in the midst of a session."""
        by_rate = rates.of_category(codes[:, _CATEGORY], fold) @ self.start_by_rate
        begins = numbers[:, _POSITION, None] <= 1
        return torch.softmax(torch.where(begins, self.start + by_rate, self.later_start), dim=-1)

    def fit(self, examples: Examples, rates: Rates, seed: int) -> None:
        """Fit by the likelihood of the examples' sessions, ends included where they are known. Deterministic by seed."""
        self._begin(examples, seed)
        usual = self.follows.clone()
        self.requires_grad_(True)
        size = min(max(len(examples.predicted) // _BATCH_SHARE, _LEAST_EVENTS), _MOST_EVENTS)
        steps = min(max(-(-_EPOCHS * len(examples.predicted) // size), _LEAST_STEPS), _MOST_STEPS)
        optimiser = torch.optim.Adam(self.parameters(), lr=_RATE, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, _RATE, total_steps=steps + 2, pct_start=0.1, cycle_momentum=False
        )
        rng, done, events = np.random.default_rng(seed), 0, len(examples.predicted)
        while done < steps:
            for batch in examples.batches(size, rng):
                optimiser.zero_grad()
                loss = self._loss(batch, rates) + self._penalty(usual) / events
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                done += 1
                if done == steps:
                    break
        self.requires_grad_(False)
        self._take_values()

    @torch.no_grad()
    def _begin(self, examples: Examples, seed: int) -> None:
        """The habits of all visitors together, and states that differ by chance."""
        draw = torch.Generator().manual_seed(seed)
        rows, codes, numbers = examples.predicted, examples.rows["codes"], examples.rows["numbers"]
        kind = np.bincount(codes[rows, _TYPE] - 1, minlength=_TYPES) + 0.5
        self.usual_event.copy_(torch.from_numpy(np.repeat(np.log(kind / kind.sum()), _SHOWN)))
        steps = np.clip((np.log1p(np.maximum(numbers[rows, _GAP], 0.0)) / _PAUSE_STEP).astype(int), 0, _PAUSES - 1)
        pauses = np.bincount(steps[numbers[rows, _POSITION] > 1], minlength=_PAUSES) + 1.0
        self.usual_pause.copy_(torch.from_numpy(np.log(pauses / pauses.sum())))
        # All states buy as often; where little is known, rarely.
        bought = (float((codes[rows, _TYPE] == TYPE_CODE["purchase"]).sum()) + 0.05) / (len(rows) + 50.0)
        stays = _STAY * torch.eye(STATES)
        stays[:, _BUYS] = math.log(bought / (1 - bought) * (math.exp(_STAY) + STATES - 2))
        self.follows.copy_(stays)
        for habit, spread in ((self.event, 0.3), (self.pause, 0.5), (self.goes_on, 0.5), (self.keeps, 0.5)):
            habit.add_(torch.randn(habit.shape, generator=draw) * spread)

    def _loss(self, batch: Batch, rates: Rates) -> Tensor:
        length = torch.from_numpy(batch.inputs.length[:, 0]).long()
        codes, numbers = torch.from_numpy(batch.inputs.codes).long(), torch.from_numpy(batch.inputs.numbers)
        where, fold = Packed.up_to(length - 1, codes.shape[1]), torch.from_numpy(batch.fold)
        rounds = rounds_for(codes.shape[1])
        rows = where.taken(codes)
        belief, likelihood = self.filtered(rows, where.taken(numbers), where, rates, fold, rounds)
        last = torch.arange(len(codes)), length - 1
        ended = torch.from_numpy(batch.churn)[last] == 1
        leaving = (belief[where.last] * self._leaving(self._readier(rows, where, rates, fold))).sum(dim=-1)
        leaving = torch.log(leaving.clamp(min=_LEAST_FLOAT))
        return -(likelihood[where.last].sum() + (leaving * ended).sum()) / length.sum()

    def _penalty(self, usual: Tensor) -> Tensor:
        """Minus the log of the priors. `usual` [K, K]: what follows each state, before any session is looked at."""
        own = (self.event, self.pause, self.follows - usual, self.start_by_rate)
        return sum((habit**2).sum() for habit in own) / (2 * _SPREAD**2)  # type: ignore[return-value]

    @torch.no_grad()
    def _take_values(self) -> None:
        """What follows each state in the end: v = what follows * (shows it + shows it not * v), solved for v."""
        shows = self._events().exp().reshape(STATES, _TYPES, _SHOWN).sum(dim=-1)
        moves, others = self._moves(), self._others(self.readiness)
        for step, readier in enumerate(self.readiness):
            ahead = moves * others[step][:, None]
            ahead[:, _BUYS] *= torch.exp(readier)
            for h, head in enumerate(HAZARD_HEADS):
                at_once = shows[:, TYPE_CODE[head] - 1]
                self.value[step, :, h] = torch.linalg.solve(torch.eye(STATES) - ahead * (1 - at_once), ahead @ at_once)


def _impossible() -> Tensor:
    """[K, 8 * 4], logits: only one state buys, and does nothing else."""
    buys = torch.zeros(_TYPES, _SHOWN)
    buys[TYPE_CODE["purchase"] - 1] = 1.0
    return _NEVER * torch.cat([buys.expand(STATES - 1, -1, -1), 1 - buys[None]]).flatten(1)


def rounds_for(steps: int) -> int:
    """Rounds of doubling after which each block of so many rows knows all before it."""
    return ((steps - 1) // _BLOCK).bit_length()


def _scaled(product: Tensor, log: Tensor, over: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """By the largest entry over these dimensions, and the log [B, count] of what was taken out so far."""
    most = product.amax(dim=over, keepdim=True).clamp(min=_LEAST_FLOAT)
    return product / most, log + torch.log(most).reshape(log.shape)


def known(numbers: Tensor) -> Tensor:
    """0 for what is missing, or below 0."""
    return torch.where(torch.isnan(numbers), 0.0, numbers).clamp(min=0.0)
