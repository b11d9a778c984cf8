"""Every error of Inkling, and what is done about it.

    InklingError                 a sentence that says what is wrong and what to do
    ├── ConfigurationError       stop: a setting or file is wrong
    ├── StateError               stop: the changelog cannot be trusted as it is
    ├── LogError                 stop: Kafka's own files are damaged
    ├── OwnershipError           begin anew: another worker has the partition now
    ├── DeliveryError            retry the batch; never commit past it
    ├── ModelError               stop the command: a version is missing, damaged or unfit
    │   └── GateRefused          stop with status 3: the candidate is not better
    └── ScoringError             answer by the fallback, and say so in the score
        ├── ScorerUnavailable    the model server is away, or the breaker is open
        ├── DeadlineExceeded     the model server was too slow
        └── ScorerRejected       the model server refused the inputs or the version

A record that is no event is not an error: it is an `InvalidRecord` and goes to the dead letters.
"""

from enum import Enum


class Policy(Enum):
    """What the worker does when a leaf of the tree reaches it."""

    STOP = "stop"
    ANEW = "begin anew"
    RETRY = "retry"
    FALLBACK = "fallback"


class InklingError(Exception):
    """Base of all. The message is one line for the person at the terminal."""

    policy = Policy.STOP
    exit_status = 1


class ConfigurationError(InklingError):
    """A setting or a file is wrong."""


class StateError(InklingError):
    """The changelog cannot be trusted as it is. Never go on with sessions that may be wrong."""


class LogError(InklingError):
    """What Kafka has on its disk cannot be read. Nothing may be left out in silence."""


class OwnershipError(InklingError):
    """The right to write a partition's changelog is lost. Its state in memory is worth nothing now."""

    policy = Policy.ANEW


class DeliveryError(InklingError):
    """Kafka did not confirm. The batch is sent again; ids make copies harmless."""

    policy = Policy.RETRY


class ModelError(InklingError):
    """A model version is missing, damaged or unfit."""


class GateRefused(ModelError):
    """The candidate is not better than the champion."""

    exit_status = 3


class ScoringError(InklingError):
    """The model could not answer. The fallback does."""

    policy = Policy.FALLBACK


class ScorerUnavailable(ScoringError):
    """The model server cannot be reached, or the breaker is open."""


class DeadlineExceeded(ScoringError):
    """The model server did not answer in time."""


class ScorerRejected(ScoringError):
    """The model server refused the inputs or does not have the version."""
