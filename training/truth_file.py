"""Files of exact probabilities, as `inkling simulate --truth` writes them."""

import gzip
import json
from pathlib import Path

from worker.errors import ConfigurationError


def read_truth(path: Path) -> dict[str, float]:
    """Probabilities by event id. Raises ConfigurationError when the file cannot be read."""
    exact: dict[str, float] = {}
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            for line in file:
                row = json.loads(line)
                exact[row["event_id"]] = float(row["p"])
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path}: no truth file ({error}); give what `inkling simulate --truth` wrote") from error
    return exact
