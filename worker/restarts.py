"""When a worker that has ended is started again, and when that would be of no use. Nothing here starts anything."""

from enum import IntEnum

from worker.errors import ConfigurationError, InklingError, Policy

#: Long enough for the other workers to take over first: a start needs the CPU that they need for it.
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
#: A worker that has lived so long had found everything that it needs. The longest wait of a start is half of it.
SETTLED_S = 30.0


class Exit(IntEnum):
    """How a supervised worker says what it ended with: statuses of sysexits.h, known to its supervisor only."""

    REFUSED = 65  # EX_DATAERR: what it found must not be used, and will be the same next time
    ANEW = 75  # EX_TEMPFAIL: it is shut out, and begins anew
    MISCONFIGURED = 78  # EX_CONFIG: a setting is wrong, or what it names is away

    @classmethod
    def of(cls, error: InklingError) -> "Exit":
        """The status for an error that ended a worker."""
        if isinstance(error, ConfigurationError):
            return cls.MISCONFIGURED
        return cls.ANEW if error.policy is Policy.ANEW else cls.REFUSED


class Restarts:
    """The rules:

    1. State that must not be used is nothing that a restart mends: give up.
    2. A wrong setting neither, so give up; unless some worker had settled. Settings do not change while we run, so what it
       names is away for now (Kafka, mostly), and the others should not end for that.
    3. Every other end is followed by a start, whether killed, crashed, shut out, or told to end by somebody else: after a
       second, and after twice the time at each early death in a row.
    """

    def __init__(self) -> None:
        self._early_deaths: dict[int, int] = {}
        self._settled = False

    def after(self, number: int, status: int, lived_s: float) -> float | None:
        """Seconds until the worker of that number is started again, or None: give up. A signal's status is below 0."""
        if lived_s >= SETTLED_S:
            self._settled = True
            self._early_deaths[number] = 0
        if status == Exit.REFUSED or (status == Exit.MISCONFIGURED and not self._settled):
            return None
        deaths = self._early_deaths.get(number, 0)
        self._early_deaths[number] = deaths + 1
        # A bounded exponent: a number of deaths is none.
        return min(_FIRST_PAUSE_S * 2.0 ** min(deaths, 16), _LONGEST_PAUSE_S)
