"""`inkling models`, `promote` and `rollback`: what is published, and what scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

if TYPE_CHECKING:
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
        print_json(lines)
        return
    rows = [
        (
            line.version,
            line.role,
            line.parent or "",
            str(line.created_at or "")[:16],
            _utc(line.trained_until),
            _figure(line.metrics),
        )
        for line in lines
    ]
    print_table(("version", "role", "parent", "created", "trained until", "purchase log-loss"), rows)


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
        print_json(document)
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
        print_json({name: [first.get(name), second.get(name)] for name in names})
        return
    rows = [(name, str(first.get(name, "")), str(second.get(name, ""))) for name in names]
    print_table(("", f"version {a}", f"version {b}"), rows)


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
        print_json({name: getattr(pointer, name) for name in ("model", "champion", "previous", "by", "why", "at")})
    else:
        typer.echo(f"version {pointer.champion} of {pointer.model} is the champion (before: {pointer.previous or 'none'})")


def _who() -> str:
    import getpass
    import socket

    return f"{getpass.getuser()}@{socket.gethostname()}"


def print_json(document: Any) -> None:
    """On stdout, in one line."""
    typer.echo(msgspec.json.encode(document).decode())


def print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """On stdout, for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _utc(ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="minutes")[:16] if ms else ""


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
