"""The one definition of events, sessions and model inputs, shared by serving, training and audit.

Pure: no clock, no Kafka, no metrics, no file. Imports nothing else of Inkling; of others numpy, numba and msgspec.
"""
