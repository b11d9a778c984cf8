"""One program per contestant, each run in a process of its own with one JSON argument (`runner.Job`).

A contestant consumes the clicks topic from its beginning, commits every second, and writes the wall-clock time of its
first record as the first line of its report file. Those that only count add the time after their last commit.
Peers run in an environment of their own, so they import nothing of Inkling.
"""
