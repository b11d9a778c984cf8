"""How long the demo's phases are, and how its event time runs."""

from dataclasses import dataclass

from training.simulate import Drift, DriftKind

_MINUTE_MS = 60_000
_HOUR_MS = 3_600_000
_NOON_MS, _DAY_MS = 12 * _HOUR_MS, 24 * _HOUR_MS


@dataclass(frozen=True)
class Plan:
    """A quiet week of history at once, then live traffic whose event time runs `speedup` times faster than the clock.

    Live, the shop is as the default model knows it for `steady_s`; then it drifts, and stays so. After `drifted_s` a version
    is fine-tuned; the demo ends `after_s` seconds after the swap. Seconds are by the clock.
    """

    seed: int = 11
    speedup: float = 150.0
    history_hours: float = 24.0 * 7 + 6
    history_sessions_per_hour: float = 4.0
    live_sessions_per_hour: float = 400.0
    steady_s: float = 15.0
    drifted_s: float = 100.0
    after_s: float = 30.0
    drift: DriftKind = "hazard"
    drift_strength: float = 8.0
    bad_record_every: int = 400

    def live_start_ms(self, now_ms: int) -> int:
        """Event time at which the live phase begins: noon, as a shop sleeps at night, of a day on which that phase ends before
        the clock does.
        """
        live_hours = 4 * (self.steady_s + self.drifted_s + self.after_s) * self.speedup / 3600
        latest_ms = now_ms - int(live_hours * _HOUR_MS)
        return (latest_ms - _NOON_MS) // _DAY_MS * _DAY_MS + _NOON_MS

    def history_start_ms(self, now_ms: int) -> int:
        """Event time of the first event."""
        return self.live_start_ms(now_ms) - int(self.history_hours * _HOUR_MS)

    def drift_at(self, now_ms: int) -> Drift:
        """The drift, in event time."""
        at_ms = self.live_start_ms(now_ms) + int(self.steady_s * self.speedup * 1000)
        return Drift(self.drift, at_ms, self.drift_strength)

    @property
    def maturing_s(self) -> float:
        """Seconds by the clock until a session-long horizon has passed: the session, its gap, and the grace for late events."""
        return 50 * _MINUTE_MS / 1000 / self.speedup
