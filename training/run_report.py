"""What one training came to as one HTML file: no network, no script, pictures as SVG inside."""

import io
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from training.evaluate import Judged, judge, predict
from training.examples import Examples
from training.metrics.binary import BINS, calibration_bins
from training.metrics.draws import Bools, Doubles, Draws, interval
from training.report import JudgedEvents, report
from training.serving import BAND_ENDS, ServingModel
from training.version import TrainingData
from worker.contract.events import HAZARD_HEADS, HORIZONS
from worker.errors import ConfigurationError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FIGURES = (("ROC AUC", "roc_auc"), ("PR AUC", "pr_auc"), ("log-loss", "log_loss"), ("Brier", "brier"), ("ECE", "ece"))
_HEADS = (*HAZARD_HEADS, "churn")
_SESSION = HORIZONS.index("session")
#: Losses of single steps hop about: the curve is their mean over this share of the steps.
_SMOOTHED = 0.05
_STYLE = """body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } th, td { border: 1px solid #ddd; padding: .2rem .6rem; text-align: right }
th:first-child, td:first-child { text-align: left } svg { max-width: 100%; height: auto }"""


class HeldOut(NamedTuple):
    """Sessions that a network has not been trained on, `what` they are, and that network without and with its calibration."""

    what: str
    examples: Examples
    raw: ServingModel
    calibrated: ServingModel


def write_report(out: Path, title: str, data: TrainingData, curves: dict[str, list[float]], held_out: HeldOut | None) -> None:
    """Write the file. `curves` are the losses of each network's steps. Raises ConfigurationError when it cannot be written."""
    parts = [f"<h1>{escape(title)}</h1>", _held(data), "<h2>Loss by step</h2>", _svg(_loss_curves(curves))]
    if held_out is None:
        parts.append("<h2>How good it is</h2><p>Not known: of so few sessions none was left out of training.</p>")
    else:
        parts += _judged(held_out, data)
    page = f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page + "\n".join(parts) + "</html>\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{out}: the report cannot be written: {error.strerror}") from error


def _held(data: TrainingData) -> str:
    """What the data held, and what it did not."""
    first, last = (datetime.fromtimestamp(ms / 1000, UTC).strftime("%F %T") for ms in (data.from_ms, data.until_ms))
    rows = [[head, *(f"{p:.4f}" for p in priors)] for head, priors in data.priors.items() if head != "churn"]
    missing = "".join(f"<li>{escape(what)}</li>" for what in data.not_learned) or "<li>nothing</li>"
    return (
        f"<p>{escape(data.source)}: {data.events:,} events in {data.sessions:,} sessions, from {first} until {last} (UTC).</p>"
        f"<h2>Share of events that such an event follows</h2>{_table(['within', *HORIZONS], rows)}"
        f"<p>No event follows in the session after {data.priors['churn'][0]:.4f} of the events.</p>"
        f"<h2>What could not be learned</h2><ul>{missing}</ul>"
    )


def _judged(held_out: HeldOut, data: TrainingData) -> list[str]:
    examples = held_out.examples
    raw, calibrated = predict(held_out.raw, examples), predict(held_out.calibrated, examples)
    pairs = {head: (judge(raw, examples, head), judge(calibrated, examples, head)) for head in _HEADS}
    parts = [
        f"<h2>How good it is, by prefix</h2><p>On {escape(held_out.what)}; purchase and cart within the session. "
        "Intervals are of 95%, by drawing whole sessions.</p>"
    ]
    for head, (before, _) in pairs.items():
        prior = data.priors[head][_SESSION if head in HAZARD_HEADS else 0]
        parts.append(f"<h3>{head}</h3>{_by_prefix(before, examples, prior)}")
    parts.append(
        "<h2>Said and seen, by prefix</h2><p>Mean probability and share of positives of tenths of the events. "
        "Grey: before calibration, on sessions that were not trained on. Blue, with intervals: after it; "
        f"as it was fitted to such sessions, a little flattered.</p>{_svg(_reliability(pairs))}"
    )
    return parts


def _by_prefix(judged: Judged, examples: Examples, prior: float) -> str:
    began = dict(zip(examples.session.tolist(), examples.started_ms.tolist(), strict=True))
    started = np.array([began[session] for session in judged.session.tolist()], np.int64)
    events = JudgedEvents(judged.session, started, judged.position, judged.label)
    rows = []
    for name, part in report(events, judged.p, np.full(len(judged.label), prior)).items():
        cells = [_shown(part.get(figure)) for _, figure in _FIGURES]
        less = _shown(part.get("minus_baseline", {}).get("log_loss"))
        rows.append([name if name == "all" else f"event {name}", f"{part['events']:,}", f"{part['positives']:,}", *cells, less])
    return _table(["", "events", "positives", *(title for title, _ in _FIGURES), "log-loss less that of the share"], rows)


def _shown(value: list[float] | None) -> str:
    return "" if value is None else "{:.4f} [{:.4f}, {:.4f}]".format(*value)


def _loss_curves(curves: dict[str, list[float]]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    axis = figure.subplots()
    for name, losses in curves.items():
        width = max(round(_SMOOTHED * len(losses)), 1)
        if len(losses) >= width:
            smooth = np.convolve(losses, np.full(width, 1 / width), mode="valid")
            axis.plot(np.arange(width, width + len(smooth)), smooth, linewidth=1, label=name)
    axis.set_xlabel("step")
    axis.set_ylabel("loss")
    axis.grid(color="0.9")
    if curves:
        axis.legend(fontsize=8)
    return figure


def _reliability(pairs: dict[str, tuple[Judged, Judged]]) -> "Figure":
    from matplotlib.figure import Figure

    ends = [0, *(int(end) for end in BAND_ENDS), None]
    figure = Figure(figsize=(2.6 * (len(ends) - 1), 2.6 * len(pairs)), layout="constrained")
    grid = figure.subplots(len(pairs), len(ends) - 1, squeeze=False)
    for axes, (head, (before, after)) in zip(grid, pairs.items(), strict=True):
        for axis, low, high in zip(axes, ends, ends[1:], strict=False):
            inside = (after.position > (low or 0)) & (after.position <= (high or np.inf))
            top = 1e-3
            for judged, style in ((before, {"color": "0.6"}), (after, {"color": "#1f5fa8"})):
                said, seen = _bins(judged, inside)
                for p, (value, least, most) in zip(said, seen, strict=True):
                    top = max(top, p, value)
                    if judged is after:
                        axis.plot([p, p], [least, most], linewidth=1, **style)
                axis.plot(said, [value for value, _, _ in seen], marker=".", linewidth=0.8, **style)
            axis.plot([0, top], [0, top], color="0.3", linewidth=0.6, linestyle="dotted")
            which = f"event {high}" if high == (low or 0) + 1 else f"events {(low or 0) + 1} to {high or 'the last'}"
            axis.set_title(f"{head}, {which}", fontsize=8)
            axis.tick_params(labelsize=7)
    figure.supxlabel("mean probability", fontsize=9)
    figure.supylabel("share of positives", fontsize=9)
    return figure


def _bins(judged: Judged, inside: Bools) -> tuple[list[float], list[list[float]]]:
    """Mean probability and share of positives, with its interval, of each bin of these events."""
    order = np.flatnonzero(inside)[np.argsort(-judged.p[inside], kind="stable")]
    if not len(order):
        return [], []
    p, label, bins = judged.p[order], judged.label[order], calibration_bins(judged.p[order])
    member = (bins[:, None] == np.arange(BINS)).astype(np.float64)  # [n, BINS]

    def shares(weights: Doubles) -> dict[str, Doubles]:
        with np.errstate(invalid="ignore"):
            share = (weights @ (member * label[:, None])) / (weights @ member)
        return {str(k): share[:, k] for k in range(BINS)}

    measured = Draws(judged.session[order]).measure(shares)
    seen = {k: found for k in range(BINS) if (found := interval(measured[str(k)])) is not None}
    return [float(p[bins == k].mean()) for k in seen], list(seen.values())


def _svg(figure: "Figure") -> str:
    import matplotlib

    drawn = io.StringIO()
    # Text stays text, and the same figures make the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "inkling"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    whole = drawn.getvalue()
    return whole[whole.index("<svg") :]


def _table(head: list[str], rows: list[list[Any]]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{lines}</table>"
