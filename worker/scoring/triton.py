"""The model in Triton, over gRPC: every request with a deadline and a version, every answer checked."""

import asyncio
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from worker.contract.events import EVENT_TYPES, HORIZONS
from worker.contract.features import ModelInputs
from worker.errors import DeadlineExceeded, ScorerRejected, ScorerUnavailable, ScoringError
from worker.scoring.base import Floats, Scores
from worker.scoring.items import NextItems

#: Shorter client timeouts make the server drop answers that it has (triton-inference-server/server#7368).
MIN_TIMEOUT_S = 0.05
#: Loading reads weights, optimises the graph and may wait for another load.
LOAD_TIMEOUT_S = 120.0

#: A dead connection is noticed in seconds, and a restarted server is found again as soon as it listens.
_CHANNEL = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Else channels of one process to one address share their back-off, and a new one fails without having tried.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]

_WIDTH = {"purchase": len(HORIZONS), "cart": len(HORIZONS), "churn": 1, "next_type": len(EVENT_TYPES)}
_ITEMS = ("next_items", "next_item_p")
_OUTPUTS = [InferRequestedOutput(name) for name in (*_WIDTH, *_ITEMS)]
#: Rounding in float32; more than this outside [0, 1] or downwards is a fault.
_ROUNDING = 1e-5


class TritonScorer:
    """A `Scorer`. One channel, for the event loop that it was connected on."""

    def __init__(self, client: InferenceServerClient, model: str, timeout_s: float, max_batch: int) -> None:
        self._client = client
        self._model = model
        self._timeout_s = max(timeout_s, MIN_TIMEOUT_S)
        self._max_batch = max_batch

    @classmethod
    async def connect(cls, url: str, model: str, timeout_s: float, max_batch: int) -> Self:
        """A scorer for the server at `url` (host:port). The server may be away: requests say so, and find it when it is back."""
        return cls(InferenceServerClient(url, channel_args=_CHANNEL), model, timeout_s, max_batch)

    async def close(self) -> None:
        """Closes the channel."""
        await self._client.close()

    async def score(self, inputs: ModelInputs, version: str) -> Scores:
        """Scores of all B sessions, in their order.

        Raises ScorerUnavailable, DeadlineExceeded or ScorerRejected; then there is no part of an answer.
        """
        starts = range(0, len(inputs.length), self._max_batch)
        requests = [self._request(inputs.part(slice(start, start + self._max_batch)), version) for start in starts]
        # All are awaited, so that none goes on unseen after another failed; the timeout bounds the wait.
        answers = await asyncio.gather(*requests, return_exceptions=True)
        parts: list[Scores] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            parts.append(answer)
        return _joined(parts)

    async def is_live(self) -> bool:
        """Whether the server answers at all."""
        try:
            return bool(await self._client.is_server_live(client_timeout=self._timeout_s))
        except InferenceServerException:
            return False

    async def is_ready(self, version: str) -> bool:
        """Whether the server says that the version is loaded. It may say so while the model's process is dead."""
        try:
            return bool(await self._client.is_model_ready(self._model, version, client_timeout=self._timeout_s))
        except InferenceServerException:
            return False

    async def load(self) -> None:
        """Loads the versions that the repository's config.pbtxt names, and lets go of the others. Raises a ScoringError."""
        try:
            await self._client.load_model(self._model, client_timeout=LOAD_TIMEOUT_S)
        except InferenceServerException as error:
            raise scoring_error(error) from error

    async def reload(self) -> None:
        """Unloads, then loads: what brings a dead model process back. Raises a ScoringError."""
        try:
            await self._client.unload_model(self._model, client_timeout=LOAD_TIMEOUT_S)
        except InferenceServerException as error:
            raise scoring_error(error) from error
        await self.load()

    async def requests_served(self) -> dict[str, int]:
        """Requests that each loaded version has answered since it was loaded. Raises a ScoringError."""
        try:
            statistics = await self._client.get_inference_statistics(self._model, client_timeout=self._timeout_s)
        except InferenceServerException as error:
            raise scoring_error(error) from error
        # Failed ones do not count: a dead model process "fails" every request that its client gives up.
        return {model.version: model.inference_stats.success.count for model in statistics.model_stats}

    async def _request(self, inputs: ModelInputs, version: str) -> Scores:
        try:
            result = await self._client.infer(
                self._model, _tensors(inputs), model_version=version, outputs=_OUTPUTS, client_timeout=self._timeout_s
            )
        except InferenceServerException as error:
            raise scoring_error(error) from error
        return _checked(result, len(inputs.length), version)


def scoring_error(error: InferenceServerException) -> ScoringError:
    """What a client error means to us."""
    status, message = error.status(), error.message()
    match status:
        case "StatusCode.DEADLINE_EXCEEDED":
            return DeadlineExceeded("the model server did not answer in time")
        case "StatusCode.INVALID_ARGUMENT" | "StatusCode.NOT_FOUND":
            return ScorerRejected(f"the model server refused: {message}")
        case _:
            return ScorerUnavailable(f"the model server failed ({status}): {message}")


def _tensors(inputs: ModelInputs) -> list[InferInput]:
    tensors = []
    for name, array, kind in zip(ModelInputs._fields, inputs, ("INT32", "FP32", "INT32"), strict=True):
        tensor = InferInput(name, array.shape, kind)
        tensor.set_data_from_numpy(np.ascontiguousarray(array))
        tensors.append(tensor)
    return tensors


def _checked(result: InferResult, rows: int, version: str) -> Scores:
    """The answer as scores. Raises ScorerRejected unless every number is a probability and rises with the horizon."""
    answered_by = result.get_response().model_version
    if answered_by != version:
        raise ScorerRejected(f"version {version} was asked, {answered_by} answered")
    heads = {name: _probabilities(result, name, (rows, width)) for name, width in _WIDTH.items()}
    for name in ("purchase", "cart"):
        if (np.diff(heads[name], axis=1) < -_ROUNDING).any():
            raise ScorerRejected(f"version {version} gave a {name} probability that falls with the horizon")
        heads[name] = np.maximum.accumulate(heads[name], axis=1)
    chances = _probabilities(result, "next_item_p", (rows, None))
    return Scores(
        purchase=heads["purchase"],
        cart=heads["cart"],
        churn=heads["churn"][:, 0],
        next_type=heads["next_type"],
        next_items=_items(result, chances),
        version=version,
        path="model",
    )


def _items(result: InferResult, chances: Floats) -> NextItems:
    """The tensor of ids that belongs to these probabilities."""
    response = result.get_response()
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=False):
        if output.name == "next_items":
            if output.datatype != "BYTES" or tuple(output.shape) != chances.shape:
                raise ScorerRejected(f"the model server's next_items are {output.datatype} {list(output.shape)}")
            try:
                return NextItems.read(raw, chances)
            except ValueError as error:
                raise ScorerRejected(f"the model server's next_items cannot be read: {error}") from error
    raise ScorerRejected("the model server gave no next_items")


def _probabilities(result: InferResult, name: str, shape: tuple[int | None, ...]) -> Floats:
    values = _output(result, name, shape)
    # NaN fails both comparisons.
    if not ((values >= -_ROUNDING) & (values <= 1 + _ROUNDING)).all():
        raise ScorerRejected(f"the model server's {name} holds a number that is no probability")
    return np.asarray(np.clip(values, 0.0, 1.0), np.float32)


def _output(result: InferResult, name: str, shape: tuple[int | None, ...]) -> npt.NDArray[Any]:
    """One output tensor, of `shape` (None: any)."""
    try:
        values: npt.NDArray[Any] | None = result.as_numpy(name)
    except ValueError as error:
        raise ScorerRejected(f"the model server's {name} does not have the shape that it says") from error
    if values is None:
        raise ScorerRejected(f"the model server gave no {name}")
    fits = values.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, values.shape, strict=True))
    if not fits:
        raise ScorerRejected(f"the model server's {name} has shape {list(values.shape)}, not {list(shape)}")
    return values


def _joined(parts: list[Scores]) -> Scores:
    """The requests' scores as those of one batch."""
    if len(parts) == 1:
        return parts[0]
    return parts[0]._replace(
        purchase=np.concatenate([part.purchase for part in parts]),
        cart=np.concatenate([part.cart for part in parts]),
        churn=np.concatenate([part.churn for part in parts]),
        next_type=np.concatenate([part.next_type for part in parts]),
        next_items=NextItems.joined([part.next_items for part in parts if part.next_items is not None]),
    )
