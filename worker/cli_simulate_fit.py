"""`inkling simulate fit`: the simulator's parameters from a real clickstream."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from worker.errors import ConfigurationError

if TYPE_CHECKING:
    from training.simulate import Shop
    from training.simulator.fidelity import Fidelity


def fit(
    files: Annotated[list[Path], typer.Argument(help="Events of a real shop, JSON lines, .gz by suffix.")],
    out: Annotated[Path, typer.Option(help="File for the shop's parameters.")],
    name: Annotated[str | None, typer.Option(help="Name of the shop; without it, that of --out.")] = None,
    source: Annotated[str, typer.Option(help="Where the events come from; kept in the parameters.")] = "unknown",
    states: Annotated[str, typer.Option(help="Numbers of hidden states to try, as 2-6 or 4; the least BIC wins.")] = "2-6",
    restarts: Annotated[int, typer.Option(min=1, help="Random starts for each number of states.")] = 3,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    browse_only: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Leave out carts and purchases, and assume purchases in this fraction of sessions instead."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report for scripts.")] = False,
) -> None:
    """Fit a shop to real events by expectation maximisation, and report how like them it is."""
    from training.read import EventFiles
    from training.simulate import save_shop
    from training.simulator.fidelity import fidelity
    from training.simulator.fit import fit_shop
    from training.simulator.hazards import with_purchases
    from training.simulator.observe import sessions_of

    counts = _counts(states)
    without = frozenset({"cart", "remove_from_cart", "purchase"}) if browse_only is not None else frozenset[str]()
    sessions = sessions_of(EventFiles(files).events(), without=without)
    if not sessions:
        raise ConfigurationError(f"{', '.join(map(str, files))}: no sessions to fit; give a shop's events")
    console = Console(stderr=True)
    with console.status(f"fitting {len(sessions)} sessions"):
        fitted = fit_shop(
            sessions,
            name=name or out.stem,
            source=source,
            states=counts,
            restarts=restarts,
            seed=seed,
            progress=lambda line: console.print(line, highlight=False),
        )
    report = fidelity(fitted.shop, sessions)
    save_shop(fitted.shop if browse_only is None else with_purchases(fitted.shop, browse_only), out)
    _print_report(fitted.shop, report, as_json)


def _counts(states: str) -> range:
    low, _, high = states.partition("-")
    if not low.isdigit() or not (high or low).isdigit() or not 1 <= int(low) <= int(high or low):
        raise typer.BadParameter(f"--states {states}: give a number or a range like 2-6")
    return range(int(low), int(high or low) + 1)


def _print_report(shop: "Shop", report: "Fidelity", as_json: bool) -> None:
    if as_json:
        print(json.dumps({"states": len(shop.states), **asdict(report)}, indent=2))
        return
    console = Console()
    table = Table("figure", "real", "simulated", title=f"{shop.name}: {len(shop.states)} states")
    simulated = asdict(report.simulated)
    for name, real in asdict(report.real).items():
        if name == "type_shares":
            for kind in sorted(real | simulated[name]):
                table.add_row(f"share of {kind}", f"{real.get(kind, 0):.4f}", f"{simulated[name].get(kind, 0):.4f}")
        else:
            table.add_row(name.replace("_", " "), f"{real:.4g}", f"{simulated[name]:.4g}")
    console.print(table)
    if not report.real.purchase_rate:
        return
    bins = Table("mean p", "purchase later", "z", title="calibration on the real sessions, by fifths of the events")
    for each in report.bins:
        bins.add_row(f"{each.p:.4f}", f"{each.rate:.4f}", f"{each.z:+.2f}")
    console.print(bins)
    console.print(f"log-loss {report.log_loss:.4f}, of the mean rate {report.constant_log_loss:.4f}", highlight=False)
