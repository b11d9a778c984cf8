"""`inkling simulate`: a clickstream with a known truth, and the fit of its parameters to a real one."""

import asyncio
import gzip
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from worker.cli_simulate_fit import fit
from worker.contract.codec import encode
from worker.contract.events import ClickEvent
from worker.errors import ConfigurationError
from worker.settings import Settings

if TYPE_CHECKING:
    from training.simulate import Clickstream, Drift

app = typer.Typer(help="A simulated shop whose true purchase probabilities are known.", invoke_without_command=True)
app.command()(fit)

#: Two weeks: enough for the outcomes of the longest horizon to be seen.
_SPAN_H = 14 * 24
#: A fixed start makes files with the same seed equal.
_FILE_START = "2026-01-05T00:00:00Z"


@app.callback()
def simulate(
    context: typer.Context,
    sessions: Annotated[int, typer.Option(min=1, help="Number of sessions.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same events.")] = 1,
    shop: Annotated[str, typer.Option(help="A shipped shop or a JSON file.")] = "electronics",
    drift: Annotated[str, typer.Option(help="none, hazard, ramp, swap, mix or new_items.")] = "none",
    drift_at: Annotated[float, typer.Option(min=0, max=1, help="When it begins, as a fraction of the time.")] = 0.5,
    drift_strength: Annotated[float | None, typer.Option(help="How strong it is; what that means depends on the kind.")] = None,
    out: Annotated[Path | None, typer.Option(help="File for the events, .jsonl or .jsonl.gz; without it, stdout.")] = None,
    topic: Annotated[str | None, typer.Option(help="Send the events to this Kafka topic instead.")] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Events per second to the topic; without it, all at once.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help='File for the truth: {"event_id", "p"} a line.')] = None,
    start: Annotated[
        str | None,
        typer.Option(help=f"First moment, ISO or ms; without it {_FILE_START}, or to a topic, so that it ends now."),
    ] = None,
    sessions_per_hour: Annotated[
        float | None, typer.Option(min=0.001, help="Mean traffic; without it, the sessions spread over two weeks.")
    ] = None,
) -> None:
    """Make events whose true purchase probability is known at every one."""
    if context.invoked_subcommand is not None:
        return
    if out is not None and topic is not None:
        raise typer.BadParameter("give --out or --topic, not both")
    from training.simulate import load_shop
    from training.simulate import simulate as simulated

    per_hour = sessions_per_hour or sessions / _SPAN_H
    span_ms = round(sessions / per_hour * 3_600_000)
    # Live topics refuse the future; the last session's end is not known beforehand.
    ends_now = topic is not None and start is None
    start_ms = int(time.time() * 1000) - span_ms if ends_now else _start_ms(start or _FILE_START)
    stream = simulated(
        load_shop(shop),
        sessions,
        seed,
        start_ms,
        sessions_per_hour=per_hour,
        drift=_drift(drift, start_ms, span_ms, drift_at, drift_strength),
    )
    if ends_now:
        stream = stream.ending_at(int(time.time() * 1000))
    with ExitStack() as files:
        events: Iterable[ClickEvent] = files.enter_context(_progress(stream, "simulating"))
        if truth is not None:
            events = _with_truth(events, stream, files.enter_context(_writer(truth)))
        if topic is not None:
            _send(events, topic, rate)
        elif out is not None:
            _write(events, files.enter_context(_writer(out)).write)
        else:
            _write(events, typer.get_binary_stream("stdout").write)


def _start_ms(text: str) -> int:
    if text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"--start {text}: give a time like {_FILE_START}, or ms since the epoch") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _drift(kind: str, start_ms: int, span_ms: int, at: float, strength: float | None) -> "Drift":
    from training.simulate import DRIFT_KINDS, Drift

    known = {name: name for name in DRIFT_KINDS}
    if kind not in known:
        raise typer.BadParameter(f"--drift {kind}: give one of {', '.join(DRIFT_KINDS)}")
    return Drift(known[kind], start_ms + round(at * span_ms), strength, ramp_ms=max(1, round((1 - at) * span_ms)))


@contextmanager
def _progress(stream: "Clickstream", what: str) -> Iterator[Iterable[ClickEvent]]:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=len(stream))
        yield _counted(stream.events(), lambda count: progress.advance(task, count))


def _counted(events: Iterable[ClickEvent], advance: Callable[[int], None], every: int = 1000) -> Iterator[ClickEvent]:
    for number, event in enumerate(events, start=1):
        yield event
        if number % every == 0:
            advance(every)


@contextmanager
def _writer(path: Path) -> Iterator[IO[bytes]]:
    """Writes beside the file and renames at the end, so that a broken run leaves no half of one."""
    unfinished = path.with_name(path.name + ".tmp")
    try:
        with unfinished.open("wb") as raw:
            if path.suffix == ".gz":
                # Neither name nor time go into the header: the same events make the same file.
                with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as packed:
                    yield packed  # type: ignore[misc]  # a GzipFile is a binary file in all that is used here
            else:
                yield raw
        unfinished.replace(path)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _send(events: Iterable[ClickEvent], topic: str, rate: float | None) -> None:
    from worker.send import send_records

    records = ((event.visitor_id.encode(), encode(event)) for event in events)
    report = asyncio.run(send_records(Settings(), records, topic, rate))
    Console(stderr=True).print(f"sent {report.records} events in {report.seconds:.1f} s, all confirmed", highlight=False)


def _write(events: Iterable[ClickEvent], write: Callable[[bytes], Any]) -> None:
    for event in events:
        write(encode(event) + b"\n")


def _with_truth(events: Iterable[ClickEvent], stream: "Clickstream", file: IO[bytes]) -> Iterator[ClickEvent]:
    for event, p in zip(events, stream.truth.tolist(), strict=True):
        file.write(b'{"event_id":"%s","p":%.9g}\n' % (event.event_id.encode(), p))
        yield event
