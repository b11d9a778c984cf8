"""A seeded simulation of the worker's streaming core: no real time, no Kafka, every crash at a moment of its choosing.

    schedule    what happens: clicks, workers, faults, all drawn from one seed
    simulation  runs a schedule and says what was broken
    process     one worker: the real Pipeline, Lane, Delivery, Owner and restore, and the part of Faust's consumer
    broker      topics, transactions and compaction          group   membership, generations, commits
    producer    aiokafka's producer over a bad connection    loop    asyncio with a clock that jumps
    checker     the invariants I1 to I5                      mutants known bugs, put back to see that they are caught

`python -m tests.faults --help` runs it; a seed replays exactly.
"""
