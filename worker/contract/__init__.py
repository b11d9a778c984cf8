"""The one definition of events, sessions and model inputs, shared by serving, training and audit.

Pure: no clock, no Kafka, no metrics, no file but its own sources (`compiled`). Imports nothing else of Inkling; of others numpy,
numba and msgspec.
"""
