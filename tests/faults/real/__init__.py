"""Real processes, genuine Kafka and Triton, and seeded harm: what is left on the topics must be what a replay says.

    failpoints   where a worker can be told to kill itself     armed     the program of such a worker
    traffic      clicks from a seed: good, late, twice, broken  processes workers that are killed, paused, watched
    stage        one scenario's own topics, clicks and workers  check     audit and reference replay over what it left
    kills, group, broker, topics, disk, model, flood            the scenarios, by what they harm
    catalogue    all of them by name                            table     what was injected, and what the checker said

`python -m tests.faults.real --help` runs them; the seed decides clicks, moments and order.
"""
