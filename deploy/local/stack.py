"""The whole local stack as one object: Kafka, Triton and Prometheus, started side by side and stopped without a trace."""

import os
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

import msgspec

from deploy.local.errors import StackError, explain
from deploy.local.golden import golden_probe
from deploy.local.kafka import KafkaBroker
from deploy.local.lock import DirectoryLock
from deploy.local.ports import HOST, reserve_ports
from deploy.local.process import Child, ProcessId
from deploy.local.prometheus import PrometheusServer, find_prometheus
from deploy.local.shm import remove_orphaned_regions
from deploy.local.state import Addresses, StackState, read_state, sweep, write_state
from deploy.local.topics import TopicSpec, create_topics
from deploy.local.triton import Probe, TritonServer, add_missing_versions, found_models

Progress = Callable[[str], None]
OWN_MODELS = Path(__file__).parents[2] / "model_repo"
PORTS = 6  # Kafka, its controller, Triton's HTTP, gRPC and metrics, Prometheus; always in this order from the port base upwards
NO_WORKERS: Mapping[str, Sequence[str]] = {"worker": (), "labels": ()}
_WRITTEN = ("kafka", "triton", "prometheus", "model_repo", "logs", "stack.json")
_LEAST_FREE_BYTES = 500 * 1024 * 1024


class Part(Protocol):
    """What the stack asks of Kafka, Triton and Prometheus alike."""

    name: str
    child: Child | None

    def launch(self, progress: Progress) -> Child:
        """Starts the process."""

    def wait_ready(self) -> None:
        """Returns when it serves."""

    def stop(self) -> None:
        """Ends it."""


class LocalStack:
    """A context manager: `with LocalStack(directory) as stack: ... stack.addresses.kafka`.

    Everything it writes is under `directory`. Kafka's data, the served models and Prometheus's record stay there when it stops.
    Children die with the process that started them, however it ends; what a crash leaves behind is swept at the next start.

    Args:
        directory: made when it is not there. One stack at a time; any number side by side in different directories.
        port_base: Kafka listens there, the rest on the ports above; None takes free ports, the same as last time if possible.
        with_triton: whether a model server is started.
        with_prometheus: "auto" starts it where it is installed and says so loudly where it is not.
        model_repository: models and versions are copied from here to `directory`/model_repo, which is what Triton serves, so that
            versions published later never change a clone. None copies nothing.
        require_model: whether a repository without any model version is an error.
        probe: see `TritonServer`; by default every model is asked its own golden batch.
        topics: made before the stack counts as ready.
        scrape: for each further job the `host:port` addresses that Prometheus reads; `prometheus.set_targets` changes them.
        cache: where jars are kept; the user's cache by default.
    """

    def __init__(
        self,
        directory: Path,
        port_base: int | None = None,
        *,
        with_triton: bool = True,
        with_prometheus: bool | Literal["auto"] = "auto",
        model_repository: Path | None = OWN_MODELS,
        require_model: bool = False,
        probe: Probe | None = None,
        topics: Sequence[TopicSpec] = (),
        scrape: Mapping[str, Sequence[str]] = NO_WORKERS,
        cache: Path | None = None,
    ) -> None:
        self.directory = directory
        self.kafka: KafkaBroker | None = None
        self.triton: TritonServer | None = None
        self.prometheus: PrometheusServer | None = None
        self._port_base = port_base
        self._with_triton = with_triton
        self._with_prometheus = with_prometheus
        self._model_source = model_repository
        self._require_model = require_model
        self._probe = probe
        self._topics = topics
        self._scrape = scrape
        self._cache = cache
        self._lock = DirectoryLock(directory)
        self._state: StackState | None = None
        self._state_guard = threading.Lock()
        self._parts: list[Part] = []
        self._stopping = False

    @property
    def addresses(self) -> Addresses:
        """Where each part answers, once started."""
        if self._state is None or self._state.addresses is None:
            raise StackError("the local stack is not started: call start() first")
        return self._state.addresses

    def start(self, progress: Progress = lambda _: None) -> Addresses:
        """Starts every part at the same time and returns when all are ready. On any failure nothing is left running.

        Raises:
            StackError: what is wrong and what to do, in one line; with the end of the log where a part failed.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            self._start(progress)
        except BaseException as error:
            self._give_up(error)
            if isinstance(error, OSError):
                raise explain(error, self.directory) from error
            raise
        return self.addresses

    def stop(self) -> None:
        """Stops every part and leaves no process, port or shared memory. May be called twice."""
        self._stopping = True
        if self._parts:
            with ThreadPoolExecutor(len(self._parts)) as pool:
                list(pool.map(lambda part: part.stop(), self._parts))
        self._parts = []
        if self._state is not None and self._state.phase != "failed":
            self._say(phase="stopped", children={}, addresses=None)
        self._state = None
        self._lock.release()

    def create_topics(self, specs: Iterable[TopicSpec]) -> None:
        """Makes the topics that are not there yet. Raises StackError."""
        create_topics(self.addresses.kafka, specs)

    def dead_parts(self) -> list[Part]:
        """The parts that ended although nobody stopped them."""
        return [part for part in self._parts if part.child is not None and not part.child.running()]

    def restart(self, part: Part, progress: Progress = lambda _: None) -> None:
        """Starts a part again on the same ports and data, whether it still runs or not. Raises StackError."""
        part.stop()
        self._start_part(part, progress)

    def __enter__(self) -> "LocalStack":
        if self._state is None:
            self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _start(self, progress: Progress) -> None:
        self._clean_up(progress)
        _check_free_space(self.directory)
        before = read_state(self.directory)
        owner = ProcessId.of(os.getpid())
        assert owner is not None
        self._stopping = False
        with reserve_ports(PORTS, self._port_base, wanted=before.ports if before else ()) as reservation:
            self._state = StackState(owner, ports=reservation.ports)

            def tell(step: str) -> None:
                progress(step)
                with self._state_guard:
                    self._say(steps=[*self._state.steps, step] if self._state else [step])

            self._prepare_models()
            self._make_parts(reservation.ports, tell)
            self._start_parts(tell)
        if self._topics and self.kafka is not None:
            create_topics(self.kafka.address, self._topics)
        self._say(phase="ready", addresses=self._found_addresses())

    def _clean_up(self, progress: Progress) -> None:
        for name in sweep(self.directory):
            progress(f"ended {name}, left over from a run that crashed")
        remove_orphaned_regions()

    def _prepare_models(self) -> None:
        if not self._with_triton:
            return
        if self._model_source is not None:
            add_missing_versions(self._model_source, self._repository)
        if self._require_model and not found_models(self._repository):
            source = self._model_source or self._repository
            raise StackError(f"no model version in {source}: train one with `inkling train`, or start without Triton")

    def _make_parts(self, ports: Sequence[int], progress: Progress) -> None:
        kafka, controller, http, grpc, metrics, prometheus = ports
        logs = self.directory / "logs"
        self.kafka = KafkaBroker(self.directory / "kafka", logs / "kafka.log", kafka, controller, self._cache)
        self._parts = [self.kafka]
        if self._with_triton:
            self.triton = TritonServer(
                self.directory / "triton",
                logs / "triton.log",
                self._repository,
                http,
                grpc,
                metrics,
                probe=self._probe or golden_probe(self._repository),
            )
            self._parts.append(self.triton)
        if self._with_prometheus == "auto" and find_prometheus() is None:
            progress("NO PROMETHEUS on this machine: going on without (Debian: apt-get install prometheus)")
        elif self._with_prometheus:
            targets = {"triton": [f"{HOST}:{metrics}"] if self._with_triton else [], **self._scrape}
            self.prometheus = PrometheusServer(self.directory / "prometheus", logs / "prometheus.log", prometheus, targets)
            self._parts.append(self.prometheus)

    def _start_parts(self, progress: Progress) -> None:
        with ThreadPoolExecutor(len(self._parts)) as pool:
            starts = [pool.submit(self._start_part, part, progress) for part in self._parts]
            try:
                done, _ = wait(starts, return_when=FIRST_EXCEPTION)
            finally:
                # When one failed (or Ctrl-C came) the others end too: their threads see their child gone, and the pool closes.
                if not all(start.done() and start.exception() is None for start in starts):
                    self._stopping = True
                    for part in self._parts:
                        part.stop()
            for start in done:
                start.result()

    def _start_part(self, part: Part, progress: Progress) -> None:
        child = part.launch(progress)
        if child.id is not None:
            with self._state_guard:
                self._say(children={**(self._state.children if self._state else {}), part.name: child.id})
        if self._stopping:
            part.stop()
        part.wait_ready()
        progress(f"{part.name} is ready")

    def _give_up(self, error: BaseException) -> None:
        for part in self._parts:
            part.stop()
        if self._state is not None:
            tail = error.log_tail if isinstance(error, StackError) else ""
            self._say(phase="failed", children={}, error=str(error) or type(error).__name__, log_tail=tail)
        self.stop()

    def _say(self, **changes: object) -> None:
        """Changes the state, in memory and on disk."""
        assert self._state is not None
        self._state = msgspec.structs.replace(self._state, **changes)
        write_state(self.directory, self._state)

    def _found_addresses(self) -> Addresses:
        assert self.kafka is not None
        return Addresses(
            kafka=self.kafka.address,
            model_repository=str(self._repository.resolve()),
            triton_grpc=self.triton.grpc_address if self.triton else None,
            triton_http=self.triton.http_url if self.triton else None,
            triton_metrics=self.triton.metrics_address if self.triton else None,
            prometheus=self.prometheus.url if self.prometheus else None,
        )

    @property
    def _repository(self) -> Path:
        return self.directory / "model_repo"


def wipe(directory: Path) -> None:
    """Removes everything that a stack writes in its directory. Only when no stack runs there."""
    for name in _WRITTEN:
        path = directory / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _check_free_space(directory: Path) -> None:
    free = shutil.disk_usage(directory).free
    if free < _LEAST_FREE_BYTES:
        raise StackError(
            f"only {free // 2**20} MB free on the disk of {directory}, {_LEAST_FREE_BYTES // 2**20} MB are needed: "
            "free some space, or choose another --dir"
        )
