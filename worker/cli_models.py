"""`inkling models`, `promote`, `rollback` and `finetune`: what is published, what scores, and making a better one."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

if TYPE_CHECKING:
    from training.finetune import CycleReport
    from worker.pointer import Pointer
    from worker.versions import Manifest

models_app = typer.Typer(help="What is published: versions, their lineage and their figures.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
Version = Annotated[str, typer.Argument(help="Its number.", show_default=False)]
Why = Annotated[str, typer.Option(help="The reason, kept in the record.")]


class VersionLine(msgspec.Struct, frozen=True):
    """One version in `inkling models list`."""

    version: str
    role: str
    parent: str | None
    created_at: int | str | None
    trained_until: int
    metrics: dict[str, Any]


@models_app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """Every version in the repository, and which one scores."""
    from worker.versions import list_versions, read_manifest

    folder, pointer = _repository()
    lines = [_line(read_manifest(folder / version), pointer) for version in list_versions(folder)]
    if as_json:
        _print_json(lines)
        return
    rows = [
        (line.version, line.role, line.parent or "", str(line.created_at or ""), _utc(line.trained_until), _figure(line.metrics))
        for line in lines
    ]
    _print_table(("version", "role", "parent", "created", "trained until", "purchase log-loss"), rows)


@models_app.command("show")
def show_model(version: Version, as_json: AsJson = False) -> None:
    """One version: what made it, how good it is, and that its files are what its manifest says."""
    from rich.console import Console

    from worker.versions import open_version

    folder, pointer = _repository()
    found = open_version(folder, version)
    document = msgspec.to_builtins(found.manifest)
    document |= {"role": _line(found.manifest, pointer).role, "manifest_sha256": found.manifest_sha256}
    if as_json:
        _print_json(document)
    else:
        Console(soft_wrap=True).print_json(msgspec.json.encode(document).decode())


@models_app.command("diff")
def diff_models(a: Version, b: Version, as_json: AsJson = False) -> None:
    """What the manifests of two versions say differently."""
    from worker.versions import read_manifest

    folder, _ = _repository()
    first, second = (_flat(msgspec.to_builtins(read_manifest(folder / version))) for version in (a, b))
    names = [name for name in first | second if first.get(name) != second.get(name)]
    if as_json:
        _print_json({name: [first.get(name), second.get(name)] for name in names})
        return
    rows = [(name, str(first.get(name, "")), str(second.get(name, ""))) for name in names]
    _print_table(("", f"version {a}", f"version {b}"), rows)


def promote(version: Version, why: Why = "promoted by hand", as_json: AsJson = False) -> None:
    """Make a version the champion: load it, check it, write the record that the workers follow."""
    import asyncio

    from training import publish
    from worker.settings import Settings

    _say(asyncio.run(publish.promote(Settings(), version, _who(), why)), as_json)


def rollback(why: Why = "rolled back by hand", as_json: AsJson = False) -> None:
    """Go back to the champion before."""
    import asyncio

    from training import publish
    from worker.settings import Settings

    _say(asyncio.run(publish.rollback(Settings(), _who(), why)), as_json)


def finetune(
    once: Annotated[bool, typer.Option("--once", help="One cycle, also the default; exit status 3 if the gate refuses.")] = False,
    every: Annotated[str | None, typer.Option(help="A cycle every so often, until told to stop: 90s, 30m, 2h.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, log and champion: same candidate.")] = 0,
    min_sessions: Annotated[
        int, typer.Option(min=1, help="Newest sessions with a known outcome that are needed to judge.")
    ] = 200,
    min_positives: Annotated[int, typer.Option(min=1, help="Of their events, how many must lead to a purchase.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Read the log, learn from what is new, and publish the result if it is surely better on what is newer still."""
    from training.finetune import CycleOptions, run_cycle
    from training.gate import GatePolicy
    from worker.errors import ConfigurationError, GateRefused, InklingError
    from worker.settings import Settings

    if once and every is not None:
        raise typer.BadParameter("give --once or --every, not both")
    pause_s = None if every is None else _seconds(every)
    settings = Settings()
    options = CycleOptions(seed=seed, gate=GatePolicy(min_sessions=min_sessions, min_positives=min_positives))
    while True:
        started = time.monotonic()
        try:
            with _progress() as (tell, progress):
                report = run_cycle(settings, options, tell, progress)
            _print_report(report, as_json)
            if pause_s is None and not report.passed:
                raise GateRefused(f"the gate refused: {report.reason}")
        except ConfigurationError:
            raise
        except InklingError as error:
            if pause_s is None:
                raise
            # The next cycle begins anew from what scores then.
            typer.echo(f"this cycle failed: {error}", err=True)
        if pause_s is None:
            return
        time.sleep(max(started + pause_s - time.monotonic(), 0))


def _repository() -> "tuple[Path, Pointer | None]":
    """The model's folder and the pointer. Without Kafka the folder can still be read: then a word on stderr, and None."""
    import asyncio

    from worker.control import read_pointer
    from worker.errors import DeliveryError, ModelError
    from worker.settings import Settings

    settings = Settings()
    folder = settings.model.repository / settings.model.name
    if not folder.is_dir():
        raise ModelError(f"{folder} is no folder: INKLING_MODEL__REPOSITORY must name the folder that the model server serves")
    try:
        return folder, asyncio.run(read_pointer(settings))
    except DeliveryError as error:
        typer.echo(f"which version scores is not known: {error}", err=True)
        return folder, None


def _line(manifest: "Manifest", pointer: "Pointer | None") -> VersionLine:
    role = ""
    if pointer is not None:
        role = {pointer.champion: "champion", pointer.previous: "previous"}.get(manifest.version, "")
    return VersionLine(manifest.version, role, manifest.parent, manifest.created_at, manifest.trained_until_ms, manifest.metrics)


def _say(pointer: "Pointer", as_json: bool) -> None:
    if as_json:
        _print_json({name: getattr(pointer, name) for name in ("model", "champion", "previous", "by", "why", "at")})
    else:
        typer.echo(f"version {pointer.champion} of {pointer.model} is the champion (before: {pointer.previous or 'none'})")


@contextmanager
def _progress() -> "Iterator[tuple[Callable[[str], None], Callable[[int, int, float], None]]]":
    """On stderr: a line for each step of the cycle, and a bar while it learns."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("learning", total=None, visible=False)

        def step(done: int, steps: int, _: float) -> None:
            bars.update(bar, completed=done, total=steps, visible=done < steps)

        yield lambda line: console.print(line, markup=False, highlight=False), step


def _print_report(report: "CycleReport", as_json: bool) -> None:
    if as_json:
        _print_json(report)
        return
    typer.echo(", ".join(f"{count} {name}" for name, count in report.sessions.items()) + f" sessions of {report.events} events")
    if report.decision is not None and report.decision.deciding is not None:
        heads = [report.decision.deciding, *report.decision.others]
        rows = [
            (
                head.name,
                f"{head.positives} of {head.events}",
                f"{head.champion_logloss:.5f}",
                f"{head.candidate_logloss:.5f}",
                f"{head.difference:+.5f} [{head.low:+.5f}, {head.high:+.5f}]",
                f"{head.champion_ece:.4f}",
                f"{head.candidate_ece:.4f}",
            )
            for head in heads
        ]
        champion = f"version {report.champion}"
        _print_table(("head", "positive", champion, "candidate", "difference", f"ECE of {report.champion}", "ECE"), rows)
    if report.passed:
        typer.echo(f"version {report.version} is the champion: {report.reason}")


def _seconds(text: str) -> float:
    """A duration such as 90s, 30m or 2h."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
    try:
        seconds = float(text[:-1]) * units[text[-1:]]
    except (ValueError, KeyError):
        seconds = 0.0
    if not seconds > 0:
        raise typer.BadParameter(f"{text!r} is no duration; give 90s, 30m or 2h")
    return seconds


def _who() -> str:
    import getpass
    import socket

    return f"{getpass.getuser()}@{socket.gethostname()}"


def _print_json(document: Any) -> None:
    typer.echo(msgspec.json.encode(document).decode())


def _print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _utc(ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="minutes") if ms else ""


def _figure(metrics: dict[str, Any]) -> str:
    """The log-loss of a purchase in the session, where the version was evaluated."""
    found = [value for name, value in _flat(metrics).items() if name.endswith("purchase.session.log_loss") and value is not None]
    return f"{found[0]:.5f}" if found else ""


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested names joined by dots."""
    flat: dict[str, Any] = {}
    for name, value in document.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
