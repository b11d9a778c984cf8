"""Where the worker's time goes: py-spy samples the contestant while it works."""

import subprocess
from collections import Counter
from pathlib import Path

from tests.benchmarks.process import PEER_PYTHON
from tests.benchmarks.throughput import Contestant, run

_SAMPLES_S = 200
_TOP = 15


def measure(bootstrap: str, clicks: str, events: int, one: Contestant, work: Path) -> dict[str, list[tuple[str, float]]]:
    """Functions by their share of the samples taken while they held the interpreter: alone, and ours with all they call."""
    stacks = work / "stacks.txt"
    watchers: list[subprocess.Popen[bytes]] = []

    def watch(pid: int) -> None:
        command = [
            "record",
            "--pid",
            str(pid),
            "--gil",
            "--format",
            "raw",
            "--rate",
            str(_SAMPLES_S),
            "--function",
            "--output",
            str(stacks),
        ]
        watchers.append(subprocess.Popen([str(PEER_PYTHON.with_name("py-spy")), *command], stdout=-3, stderr=-3))

    run(bootstrap, clicks, events, one, work, watch)
    for watcher in watchers:
        watcher.wait(60)  # it ends with what it watches
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in stacks.read_text().splitlines():
        frames, count = line.rsplit(" ", 1)
        functions = frames.split(";")
        own[functions[-1]] += int(count)
        within.update(dict.fromkeys({name for name in functions if "(worker/" in name}, int(count)))
    samples = own.total()
    del own[""]  # threads that have no frame of Python just now
    return {
        kind: [(name, round(count / samples, 4)) for name, count in counts.most_common(_TOP)]
        for kind, counts in (("within", within), ("own", own))
    }
