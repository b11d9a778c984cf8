"""A version's ONNX graph in this process: offline scoring, golden batches, tests."""

from pathlib import Path

import numpy as np
import onnxruntime

from training.signature import OUTPUTS
from worker.contract.features import ModelInputs
from worker.scoring.base import Scores
from worker.scoring.items import NextItems


class Graph:
    """`model.onnx` on the CPU, one thread unless told otherwise. Gives what the model server gives."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        # An earlier version's graph knows fewer codes: what came later stands behind them.
        self._codes = next(given.shape[-1] for given in self._session.get_inputs() if given.name == "codes")

    def score(self, inputs: ModelInputs, version: str) -> Scores:
        """Scores of the batch."""
        known = inputs._replace(codes=inputs.codes[..., : self._codes])
        outputs = self._session.run(list(OUTPUTS), known._asdict())
        purchase, cart, churn, next_type, items, item_p = (np.asarray(output) for output in outputs)
        named = [list(zip(row, p, strict=True)) for row, p in zip(items.tolist(), item_p.tolist(), strict=True)]
        return Scores(purchase, cart, churn[:, 0], next_type, NextItems.of(named), version, "model")
