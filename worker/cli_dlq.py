"""`inkling dlq`: records that are no events."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from worker.dead import DeadLetter, Origin

dlq_app = typer.Typer(help="Records that are no events.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
OnlyOrigin = Annotated[str | None, typer.Argument(help="Only this record, topic:partition:offset.")]
OnlyReason = Annotated[str | None, typer.Option("--reason", help="Only those with this reason.")]
Everything = Annotated[bool, typer.Option("--all", help="All of them.")]


@dlq_app.command("list")
def dlq_list(
    newest: Annotated[int, typer.Option("-n", "--newest", min=0, help="Show so many of the newest.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Count the dead letters by reason, and show the newest."""
    import asyncio
    import json

    from worker.dlq import list_dead
    from worker.settings import Settings

    listing = asyncio.run(list_dead(Settings(), newest))
    if as_json:
        letters = [_described(letter) for letter in listing.newest]
        print(
            json.dumps(
                {"reasons": dict(listing.reasons), "newest": letters, "foreign": listing.foreign, "dropped": listing.dropped}
            )
        )
        return
    for reason, count in listing.reasons.most_common():
        print(f"{count:>8}  {reason}")
    print(f"{sum(listing.reasons.values()):>8}  in all")
    for letter in listing.newest:
        what = _described(letter)
        print(f"{what['at']}  {what['origin']}  {what['reason']}: {what['detail']}")
    if listing.dropped:
        print(f"{listing.dropped} more were dropped")
    if listing.foreign:
        print(f"{listing.foreign} records on the topic are no dead letters")


@dlq_app.command("show")
def dlq_show(
    origin: Annotated[str, typer.Argument(help="Where the record stood: topic:partition:offset.")], as_json: AsJson = False
) -> None:
    """Show one dead letter: where it came from, why it is here, and its bytes."""
    import asyncio
    import json

    from worker.dlq import find_dead, printable
    from worker.settings import Settings

    letter = asyncio.run(find_dead(Settings(), _origin(origin)))
    what = _described(letter) | {
        "stage": printable(letter.stage.encode()),
        "worker_version": printable(letter.worker_version.encode()),
        "key": printable(letter.key),
        "headers": {printable(name.encode()): printable(value) for name, value in letter.headers},
        "length": letter.length,
        "sha256": printable(letter.sha256.encode()),
        "cut": list(letter.cut),
        "value": printable(letter.value),
    }
    if as_json:
        print(json.dumps(what))
        return
    for name, value in what.items():
        print(f"{name:>14}  {value}")


@dlq_app.command("replay")
def dlq_replay(
    origin: OnlyOrigin = None,
    reason: OnlyReason = None,
    everything: Everything = False,
    as_json: AsJson = False,
) -> None:
    """Put records back on the topic that they came from, each once."""
    import asyncio
    import json

    from worker.dlq import replay_dead
    from worker.settings import Settings

    result = asyncio.run(replay_dead(Settings(), _wanted(origin, reason, everything), named=origin is not None))
    if as_json:
        print(json.dumps({name: getattr(result, name) for name in result.__struct_fields__}))
        return
    print(f"{result.put_back} records put back")
    for count, why in (
        (result.again, "had been put back before, and were left"),
        (result.died_again, "had been put back and died again, and were left: name one to put it back once more"),
        (result.cut, "are not kept whole, and cannot be put back"),
        (result.dropped, "were dropped, and were left"),
    ):
        if count:
            print(f"{count} {why}")


@dlq_app.command("drop")
def dlq_drop(
    origin: OnlyOrigin = None,
    reason: OnlyReason = None,
    everything: Everything = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Mark dead letters as dealt with: they are neither listed nor put back any more. This cannot be undone.

    Nothing is deleted: the bytes stay on the topic, and `show` shows them, for as long as Kafka keeps them.
    """
    import asyncio
    import json
    import sys

    from worker.dlq import drop_dead, droppable
    from worker.settings import Settings

    wanted, settings = _wanted(origin, reason, everything), Settings()
    found = asyncio.run(droppable(settings, wanted))
    count = sum(map(len, found.values()))
    if count and not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter(f"this would drop {count} dead letters: add --yes")
        typer.confirm(f"Drop {count} dead letters?", abort=True, err=True)
    if count:
        asyncio.run(drop_dead(settings, found))
    print(json.dumps({"dropped": count}) if as_json else f"{count} dead letters dropped")


def _wanted(origin: str | None, reason: str | None, everything: bool) -> Callable[["DeadLetter"], bool]:
    from worker.contract.events import Reason

    if (origin is not None) + (reason is not None) + everything != 1:
        raise typer.BadParameter("give one of ORIGIN, --reason or --all")
    if reason is not None and reason not in {known.value for known in Reason}:
        raise typer.BadParameter(f"--reason {reason}: give one of {', '.join(known.value for known in Reason)}")
    only = None if origin is None else _origin(origin)
    return lambda letter: everything or letter.origin == only or letter.reason == reason


def _origin(text: str) -> "Origin":
    from worker.dead import Origin

    try:
        return Origin.parse(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no origin: give topic:partition:offset, as `inkling dlq list` shows it") from None


def _described(letter: "DeadLetter") -> dict[str, object]:
    from worker.dlq import printable

    return {
        "origin": printable(str(letter.origin).encode()),
        "at": _moment(letter.timestamp_ms),
        "reason": printable(letter.reason.encode()),
        "detail": printable(letter.detail.encode("utf-8", "backslashreplace"), 200),
    }


def _moment(timestamp_ms: int) -> str:
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{timestamp_ms} ms"
