"""What a shop knows of its items beside their clicks: a vector of each, of its text or picture, by any model that makes such.

It tells what an item is like that few have looked at or nobody yet: rates by item (`training/rates.py`) are shrunk to what items
with such vectors do.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

from training.read import numbered_lines
from worker.contract.events import MAX_AMOUNT, Id
from worker.contract.features import FeatureSpec, bucket
from worker.errors import ConfigurationError

#: Directions in which items differ most that are kept: more could not be told from some hundred buyers.
_DIRECTIONS = 16


@dataclass(frozen=True)
class ItemVectors:
    """Vectors of B item buckets, the mean of each one's items, with mean 0 and mean square 1 over all items and directions."""

    buckets: npt.NDArray[np.int64]  # [B]
    values: npt.NDArray[np.float64]  # [B, D]


_Coordinate = Annotated[float, msgspec.Meta(ge=-MAX_AMOUNT, le=MAX_AMOUNT)]


class _Line(msgspec.Struct):
    item_id: Id
    vector: list[_Coordinate]


_lines = msgspec.json.Decoder(_Line)


def read_item_vectors(path: Path, spec: FeatureSpec) -> ItemVectors:
    """From lines of `{"item_id", "vector"}` (.gz by suffix), all of the same length; of an item that comes twice the last counts.

    Raises ConfigurationError when the file cannot be read, a line is none of these, or there are not two different vectors.
    """
    vectors: dict[str, npt.NDArray[np.float32]] = {}
    length: int | None = None
    for number, line in numbered_lines(path):
        try:
            read = _lines.decode(line)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise ConfigurationError(f'{path}:{number}: no {{"item_id", "vector"}}: {error}') from error
        length = len(read.vector) if length is None else length
        vector = np.array(read.vector, np.float32)
        if len(vector) != length or not length:
            raise ConfigurationError(f"{path}:{number}: a vector of {len(vector)} numbers, those before it have {length}")
        vectors[read.item_id] = vector
    if len(vectors) < 2 or not (spread := np.ptp(matrix := np.stack(list(vectors.values())), axis=0)).any():
        raise ConfigurationError(f"{path}: no two items with different vectors")
    matrix = matrix[:, spread > 0]
    reduced = PCA(min(_DIRECTIONS, *matrix.shape), svd_solver="full").fit_transform(matrix.astype(np.float64))
    reduced /= np.sqrt(np.mean(reduced**2))
    at = np.array([bucket("item", item, spec.item_buckets) for item in vectors], np.int64)
    buckets, of = np.unique(at, return_inverse=True)
    total = np.zeros((len(buckets), reduced.shape[1]))
    np.add.at(total, of, reduced)
    return ItemVectors(buckets, total / np.bincount(of)[:, None])
