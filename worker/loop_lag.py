"""How late the event loop is for what is due: CPU work in it delays everything that waits, the model's answers too."""

import asyncio
import time

from worker import metrics

#: Rare enough to cost nothing, often enough to see a batch that holds the loop up.
TICK_S = 0.05
#: A process that was stopped for long has not been late so often.
_MOST_TICKS = 1200


def lateness(due_s: float, now_s: float) -> tuple[list[float], float]:
    """How late each tick was that was due until now, and when the next one is due.

    Ticks stand on a fixed grid: a loop that is blocked for a second is late for each tick of that second, not for the first one
    alone. So a quantile is over time, and says what something that becomes due at any moment has to wait.
    """
    late: list[float] = []
    while due_s <= now_s and len(late) < _MOST_TICKS:
        late.append(now_s - due_s)
        due_s += TICK_S
    return late, max(due_s, now_s)


async def watch_loop() -> None:
    """Records the lateness until cancelled."""
    due_s = time.monotonic() + TICK_S
    while True:
        await asyncio.sleep(due_s - time.monotonic())
        late, due_s = lateness(due_s, time.monotonic())
        for seconds in late:
            metrics.loop_lag.observe(seconds)
