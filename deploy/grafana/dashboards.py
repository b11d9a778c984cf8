"""Builds the dashboard's JSON from its rows. Run after every change: `python -m deploy.grafana.dashboards`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models

from deploy.grafana.learning import MODEL_SERVER, SWAPS, VERSIONS
from deploy.grafana.panel import Panel, Query
from deploy.grafana.serving import EVENT_TO_SCORE, RECOVERY, STAGES, TRAFFIC

ROWS = (EVENT_TO_SCORE, TRAFFIC, STAGES, MODEL_SERVER, VERSIONS, RECOVERY)

GENERATED = Path(__file__).parent / "dashboards" / "inkling.json"

_SOURCE = models.DataSourceRef(type_val="prometheus", uid="$datasource")
_HEIGHT = 8
_COLORS = ("green", "orange", "red")


def generate() -> str:
    """The dashboard as Grafana reads it."""
    board = json.loads(json.dumps(_dashboard().build(), cls=JSONEncoder))
    # What the SDK has no word for: the title of an annotation, and numbers that do not change with every export.
    board["annotations"]["list"][0] |= {"titleFormat": SWAPS[1], "step": "30s"}
    for number, panel in enumerate(board["panels"], start=1):
        panel["id"] = number
    return json.dumps(board, indent=2, sort_keys=True) + "\n"


def queries() -> Iterator[tuple[str, str]]:
    """Every expression, with the title of what asks it."""
    for row in ROWS:
        for panel in row.panels:
            for expression, _ in panel.queries:
                yield panel.title, expression


def _dashboard() -> dashboard.Dashboard:
    board = (
        dashboard.Dashboard("Inkling")
        .uid("inkling")
        .description("From event to score, from score to label, from label to the next version.")
        .tags(["inkling"])
        .readonly()
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource")
            .label("Data source")
            .type("prometheus")
            .current(models.VariableOption(text="default", value="default"))
        )
        .with_variable(_variable("job", "Job", "label_values(process_start_time_seconds, job)"))
        .with_variable(_variable("instance", "Instance", 'label_values(process_start_time_seconds{job=~"$job"}, instance)'))
        .with_variable(_variable("head", "Head", 'label_values(inkling_online_labels{job=~"$job"}, head)'))
        .with_variable(_variable("horizon", "Horizon", 'label_values(inkling_online_labels{job=~"$job"}, horizon)'))
        .annotation(_swaps())
    )
    for row in ROWS:
        board.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            board.with_panel(_panel(panel))
    return board


def _variable(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(_SOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(models.VariableOption(text="All", value="$__all"))
    )


def _swaps() -> dashboard.AnnotationQuery:
    return dashboard.AnnotationQuery().name("Swaps").datasource(_SOURCE).enable(True).icon_color("purple").expr(SWAPS[0])


def _panel(panel: Panel) -> Any:
    builder = (
        _builder(panel)
        .title(panel.title)
        .description(panel.description)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .span(panel.width)
        .height(_HEIGHT)
        .thresholds(_thresholds(panel))
    )
    for letter, query in zip("ABCDEF", panel.queries, strict=False):
        builder.with_target(_target(letter, query, panel.kind == "heatmap"))
    return builder


def _builder(panel: Panel) -> Any:
    match panel.kind:
        case "number":
            return _number()
        case "heatmap":
            return heatmap.Panel().calculate(False).y_axis(heatmap.YAxisConfig().unit(panel.unit))
        case "lines":
            return _lines(panel)


def _lines(panel: Panel) -> timeseries.Panel:
    stacking = common_models.StackingMode.NORMAL if panel.stacked else common_models.StackingMode.NONE
    limits = common_models.GraphTresholdsStyleMode.DASHED if panel.limits else common_models.GraphTresholdsStyleMode.OFF
    return (
        timeseries.Panel()
        .line_width(1.5)
        .fill_opacity(25 if panel.stacked else 8)
        .show_points(common_models.VisibilityMode.NEVER)
        .stacking(common.StackingConfig().mode(stacking))
        .thresholds_style(common.GraphThresholdsStyleConfig().mode(limits))
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
        )
        .tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI).sort(common_models.SortOrder.DESCENDING))
        .axis_soft_min(0)
    )


def _number() -> stat.Panel:
    return (
        stat.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .color_mode(common_models.BigValueColorMode.VALUE)
    )


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    """Green up to the first limit, then amber, then red; with a single limit straight to red. Reversed where high is better."""
    colors = (_COLORS if len(panel.limits) == 2 else ("green", "red"))[: len(panel.limits) + 1]
    if panel.better == "high":
        colors = colors[::-1]
    steps = [models.Threshold(color=colors[0], value=None)]
    steps += [models.Threshold(color=color, value=limit) for color, limit in zip(colors[1:], panel.limits, strict=True)]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _target(letter: str, query: Query, heatmap_format: bool) -> prometheus.Dataquery:
    expression, legend = query
    target = prometheus.Dataquery().ref_id(letter).datasource(_SOURCE).expr(expression).legend_format(legend)
    return target.format(prometheus_models.PromQueryFormat.HEATMAP) if heatmap_format else target


if __name__ == "__main__":
    GENERATED.parent.mkdir(exist_ok=True)
    GENERATED.write_text(generate())
