"""The rows of several sessions without their padding, so that what is said of single rows is computed of real ones only."""

from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F


class Packed(NamedTuple):
    """Where N rows of B sessions are that lie one behind the other.

    session, place  int [N]     of each row; places count from 0
    number          int [B, T]  the number of the row at each place of each session; any number at padding
    """

    session: Tensor
    place: Tensor
    number: Tensor

    @classmethod
    def up_to(cls, last: Tensor, steps: int) -> Self:
        """Of sessions that have the rows 0 .. `last` int [B] of `steps`."""
        real = torch.arange(steps, device=last.device) <= last[:, None]  # [B, T]
        session, place = real.nonzero().unbind(dim=1)
        return cls(session, place, real.flatten().cumsum(dim=0).reshape(real.shape) - 1)

    @classmethod
    def whole(cls, codes: Tensor) -> Self:
        """Of sessions [B, T, ...] with all of their rows."""
        sessions, steps = codes.shape[:2]
        # Counted and not looked for: how many rows there are is known, so that one compilation is for all batches.
        number = torch.arange(sessions * steps, device=codes.device)
        return cls(number // steps, number % steps, number.reshape(sessions, steps))

    @property
    def first(self) -> Tensor:
        """[B]: the numbers of the sessions' first rows."""
        return self.number[:, 0]

    @property
    def last(self) -> Tensor:
        """[B]: the numbers of the sessions' last rows."""
        return self.number[:, -1]

    def taken(self, padded: Tensor) -> Tensor:
        """[B, T, ...] -> [N, ...]"""
        return padded.flatten(0, 1).index_select(0, self.session * padded.shape[1] + self.place)

    def spread(self, rows: Tensor) -> Tensor:
        """[N, width] -> [B, T, width]"""
        return F.embedding(self.number, rows)

    def before(self, rows: Tensor) -> Tensor:
        """[N, width] -> [N, width]: the row before each, 0 before a session's first."""
        return F.pad(rows, (0, 0, 1, 0))[:-1] * (self.place > 0)[:, None]

    def summed(self, rows: Tensor) -> Tensor:
        """[N, width] -> [N, width]: each row and those before it in its session, added up."""
        return self.taken(self.spread(rows).cumsum(dim=1))
