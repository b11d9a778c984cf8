"""The record of the control topic: which version of the model scores, who says so and why."""

from typing import Any, Literal

import msgspec

from worker.contract.features import FeatureSpec


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """One record, key `model`; the newest one holds. `at` and `trained_until` are ms since the epoch.

    It carries all that a worker needs besides the model server: the feature spec, the fallback's parameters
    (`fallback.json`) and the golden batch (`golden.json`).
    """

    model: str
    champion: str
    previous: str | None = None
    mode: Literal["champion"] = "champion"
    challenger: str | None = None
    fraction: float = 0.0
    by: str
    why: str
    at: int
    spec: FeatureSpec
    manifest_sha256: str
    trained_until: int
    fallback: dict[str, Any]
    golden: dict[str, Any]
