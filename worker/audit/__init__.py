"""The independent checker: replays the clicks that are on Kafka and compares everything that was written about them.

It shares the contract and the settings with the worker, and no code that processes, stores or delivers.
"""
