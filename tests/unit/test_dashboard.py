"""The Grafana dashboard: generated as committed, and by the rules of Grafana's dashboard linter."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.grafana.dashboards import GENERATED, ROWS, generate, queries

BOARD: dict[str, Any] = json.loads(generate())
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
VARIABLES: dict[str, dict[str, Any]] = {variable["name"]: variable for variable in BOARD["templating"]["list"]}

#: Panels that look at a fixed stretch of time on purpose: objectives are about hours and days, totals about what is shown.
FIXED_WINDOWS = {"Burn rate", "Scores within 250 ms", "Swaps"}


def targets() -> Iterator[tuple[str, dict[str, Any]]]:
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target


def titled(panel: dict[str, Any]) -> str:
    return str(panel["title"])


def test_the_committed_json_is_what_the_code_makes() -> None:
    """`python -m deploy.grafana.dashboards` changes nothing."""
    assert GENERATED.read_text() == generate()


def test_every_query_is_on_the_dashboard() -> None:
    """What `queries()` gives to the live tests is what Grafana will ask."""
    assert sorted(queries()) == sorted((title, target["expr"]) for title, target in targets())


@pytest.mark.parametrize("panel", PANELS, ids=titled)
def test_panels_say_what_they_show(panel: dict[str, Any]) -> None:
    """A title, a description, a unit, a data source that can be chosen, and something to ask it."""
    assert panel["title"]
    assert re.search(r"\.$", panel["description"])
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "$datasource"}
    assert panel["targets"]


@pytest.mark.parametrize("panel", PANELS, ids=titled)
def test_every_line_has_a_legend(panel: dict[str, Any]) -> None:
    """Each query names its lines, by every label that it splits them by."""
    for target in panel["targets"]:
        assert target["legendFormat"]
        for split in re.findall(r"^sum by \(([\w, ]+)\)", target["expr"]):
            assert all(f"{{{{{label}}}}}" in target["legendFormat"] for label in split.split(", "))


def test_titles_are_unique() -> None:
    """A panel can be named without its row."""
    titles = [panel["title"] for panel in PANELS]
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize(("title", "target"), list(targets()), ids=lambda value: value if isinstance(value, str) else "")
def test_queries_follow_the_variables(title: str, target: dict[str, Any]) -> None:
    """Every selector is narrowed by job and instance, and every rate follows the scrape interval."""
    expression = target["expr"]
    metrics = re.findall(r"\b(?:inkling|nv|process)_\w+", expression)
    assert metrics
    assert expression.count('{job=~"$job", instance=~"$instance"') == len(metrics)
    windows = set(re.findall(r"\[([^\]]+)\]", expression))
    if title not in FIXED_WINDOWS:
        assert windows <= {"$__rate_interval"}


def test_counters_are_never_shown_raw() -> None:
    """A counter without a rate or an increase only says how long a process has run."""
    for title, target in targets():
        for counter in re.finditer(r"(\w+)\((?:inkling|process|nv)_\w+(?:_total|_count|_sum|_bucket)\{", target["expr"]):
            assert counter[1] in ("rate", "increase") or "pending" in counter[0], title


@pytest.mark.parametrize("name", ["job", "instance", "head", "horizon"])
def test_variables_are_as_the_linter_wants_them(name: str) -> None:
    """Labelled, from the chosen data source, several at once, and all of them at first."""
    variable = VARIABLES[name]
    assert variable["label"] == name.capitalize()
    assert variable["datasource"]["uid"] == "$datasource"
    assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".+")
    assert variable["refresh"] == 2  # when the time range changes


def test_the_data_source_can_be_chosen() -> None:
    """The dashboard names no Prometheus of its own."""
    assert (VARIABLES["datasource"]["type"], VARIABLES["datasource"]["query"]) == ("datasource", "prometheus")
    assert '"uid": "$datasource"' in generate()
    assert not re.search(r'"uid": "(?!\$datasource|inkling")', generate())


def test_the_dashboard_is_code() -> None:
    """It cannot be edited in Grafana, where the change would be lost."""
    assert BOARD["editable"] is False


def test_swaps_are_drawn_over_the_graphs() -> None:
    """A version that begins to serve is an annotation with its name."""
    (annotation,) = BOARD["annotations"]["list"]
    assert annotation["titleFormat"] == "version {{version}}"
    assert "inkling_model_info" in annotation["expr"]


def test_nothing_overlaps() -> None:
    """No two panels share a cell of the grid, and each line of panels is full."""
    cells: dict[tuple[int, int], int] = {}
    for panel in BOARD["panels"]:
        grid = panel["gridPos"]
        for x in range(grid["x"], grid["x"] + grid["w"]):
            for y in range(grid["y"], grid["y"] + grid["h"]):
                assert x < 24
                assert cells.setdefault((x, y), panel["id"]) == panel["id"]
    lines = {y for _, y in cells}
    assert len(cells) == 24 * len(lines)


def test_rows_are_in_the_order_of_a_question() -> None:
    """First whether all is well, last what recovery costs."""
    assert [row.title for row in ROWS] == [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert ROWS[0].title == "Event to score"
