"""`inkling stack`: Kafka, Triton and Prometheus on this machine, for development and the demo."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from worker.errors import InklingError
from worker.settings import MetricsSettings, Settings

if TYPE_CHECKING:
    from deploy.local.state import Addresses, StackState
    from deploy.local.supervise import StackOptions

app = typer.Typer(help="Kafka, Triton and Prometheus on this machine.", no_args_is_help=True)

Directory = Annotated[Path, typer.Option("--dir", help="Where the stack keeps everything it writes.")]
PortBase = Annotated[
    int | None, typer.Option(min=1024, max=65529, help="Kafka's port; the rest take the five above it. Without it: free ports.")
]
Partitions = Annotated[int | None, typer.Option(min=1, help="Partitions of each topic that is not there yet [default: 4].")]
Models = Annotated[Path | None, typer.Option(help="Models to serve a copy of [default: the clone's model_repo].")]
WithTriton = Annotated[bool, typer.Option("--triton/--no-triton", help="With the model server.")]
WithPrometheus = Annotated[bool, typer.Option("--prometheus/--no-prometheus", help="With Prometheus, where it is installed.")]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]

_DEFAULT_DIR = Path(".inkling")


@app.command()
def up(
    directory: Directory = _DEFAULT_DIR,
    port_base: PortBase = None,
    partitions: Partitions = None,
    models: Models = None,
    triton: WithTriton = True,
    prometheus: WithPrometheus = True,
    as_json: AsJson = False,
) -> None:
    """Start it in the background and wait until it is ready. A stack that is up already is left as it is."""
    _require_deploy()
    from deploy.local.supervise import start_in_background

    state = _state(directory)
    if state is not None and state.phase == "ready" and state.running() and state.addresses is not None:
        _say(f"a stack is up in {directory} already")
        addresses = state.addresses
    else:
        options = _options(port_base, partitions, models, triton, prometheus)
        with _log_shown(), _console().status("starting the local stack"):
            addresses = start_in_background(directory, options, _say)
    _print_addresses(directory, addresses, as_json)


@app.command()
def run(
    directory: Directory = _DEFAULT_DIR,
    port_base: PortBase = None,
    partitions: Partitions = None,
    models: Models = None,
    triton: WithTriton = True,
    prometheus: WithPrometheus = True,
) -> None:
    """Start it in the foreground; Ctrl-C ends it."""
    _require_deploy()
    from deploy.local.serve import serve

    stack = _options(port_base, partitions, models, triton, prometheus).stack(directory)
    with _log_shown():
        serve(stack, _say, on_ready=lambda addresses: _print_addresses(directory, addresses, as_json=False))


@app.command()
def down(
    directory: Directory = _DEFAULT_DIR,
    wipe: Annotated[bool, typer.Option("--wipe", help="Also remove its data: topics, served models, logs.")] = False,
) -> None:
    """End it. Data stays unless told otherwise."""
    _require_deploy()
    from deploy.local.shutdown import shut_down

    was_running = shut_down(directory, wipe_data=wipe)
    _say(f"the stack in {directory} is {'stopped' if was_running else 'not running'}{'; its data is removed' if wipe else ''}")


@app.command()
def status(directory: Directory = _DEFAULT_DIR, as_json: AsJson = False) -> None:
    """Say what runs, and where."""
    _require_deploy()
    report = _report(directory, _state(directory))
    if as_json:
        print(json.dumps(report, indent=2))
        return
    if not report["running"]:
        print(f"no stack runs in {directory}")
        return
    print(f"{report['phase']} in {report['directory']}")
    for name, part in report["parts"].items():
        print(f"  {name:<10} {'up  ' if part['alive'] else 'DEAD'} pid {part['pid']}")
    for name, address in report["addresses"].items():
        print(f"  {name:<17} {address or '-'}")


@app.command()
def env(directory: Directory = _DEFAULT_DIR) -> None:
    """Print the lines that point every command at it: eval "$(inkling stack env)"."""
    _require_deploy()
    state = _state(directory)
    if state is None or not state.running() or state.addresses is None:
        raise InklingError(f"no stack runs in {directory}: start it with `inkling stack up --dir {directory}`")
    addresses = state.addresses
    lines = {
        "INKLING_KAFKA__BOOTSTRAP_SERVERS": addresses.kafka,
        "INKLING_TRITON__URL": addresses.triton_grpc,
        "INKLING_MODEL__REPOSITORY": addresses.model_repository,
    }
    for name, value in lines.items():
        if value is not None:
            print(f"export {name}={shlex.quote(value)}")


def _require_deploy() -> None:
    """The base install is the worker alone."""
    try:
        import deploy.local  # noqa: F401  (asked for, not used)
    except ImportError as error:
        raise InklingError(
            "the local stack needs a clone of the repository and the `local` extra: pip install -e '.[local]'"
        ) from error


@contextmanager
def _log_shown() -> Iterator[None]:
    """What a part logged last comes before the one line that says what is wrong."""
    from deploy.local.errors import StackError

    try:
        yield
    except StackError as error:
        if error.log_tail:
            _say(error.log_tail)
        raise


def _options(
    port_base: int | None, partitions: int | None, models: Path | None, triton: bool, prometheus: bool
) -> "StackOptions":
    from deploy.local.stack import OWN_MODELS
    from deploy.local.supervise import StackOptions
    from deploy.local.topics import standard_topics

    settings = Settings()
    topics = settings.topics
    if partitions is not None:
        topics = topics.model_copy(update={"partitions": partitions})
    return StackOptions(
        port_base=port_base,
        with_triton=triton,
        with_prometheus="auto" if prometheus else False,
        model_repository=str((models or OWN_MODELS).resolve()),
        require_model=triton,
        topics=standard_topics(topics),
        scrape=_scrape(settings.metrics, topics.partitions),
    )


def _scrape(metrics: MetricsSettings, partitions: int) -> dict[str, list[str]]:
    """Where workers and the outcome join serve their metrics when they are started with the same settings.

    A supervisor's workers count up from the port. More than there are partitions would be idle; fewer are no alert.
    """
    ports = range(metrics.port, min(metrics.port + partitions, 65_536)) if metrics.port else range(0)
    return {
        "worker": [f"{metrics.host}:{port}" for port in ports if port != metrics.labels_port],
        "labels": [f"{metrics.host}:{metrics.labels_port}"] if metrics.labels_port else [],
    }


def _state(directory: Path) -> "StackState | None":
    from deploy.local.state import read_state

    return read_state(directory)


def _report(directory: Path, state: "StackState | None") -> dict[str, Any]:
    running = state is not None and state.running()
    report: dict[str, Any] = {
        "running": running,
        "directory": str(directory.resolve()),
        "phase": state.phase if state else "absent",
    }
    if state is not None and running:
        report["owner"] = state.owner.pid
        report["parts"] = {
            name.lower(): {"pid": process.pid, "alive": process.alive()} for name, process in sorted(state.children.items())
        }
        report["addresses"] = _as_dict(state.addresses) if state.addresses else {}
    return report


def _print_addresses(directory: Path, addresses: "Addresses", as_json: bool) -> None:
    if as_json:
        print(json.dumps(_as_dict(addresses), indent=2))
        return
    for name, address in _as_dict(addresses).items():
        print(f"{name:<17} {address or '-'}", flush=True)
    _say(f'next: eval "$(inkling stack env --dir {shlex.quote(str(directory))})"')


def _as_dict(addresses: "Addresses") -> dict[str, str | None]:
    import msgspec

    return msgspec.structs.asdict(addresses)


def _console() -> Console:
    return Console(stderr=True, highlight=False)


def _say(line: str) -> None:
    _console().print(line, markup=False)
