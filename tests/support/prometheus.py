"""A Prometheus that scrapes every second, and asking it what a dashboard would ask."""

import json
import math
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.local.ports import HOST, free_ports
from deploy.local.process import Child
from tests.support.tools import need

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "inkling.rules.yml"

#: What Grafana puts in for its variables when all is chosen and half a minute is shown.
VARIABLES = {
    "$__rate_interval": "30s",
    "$__range": "60s",
    "$job": ".+",
    "$instance": ".+",
    "$head": "purchase",
    "$horizon": "5m",
}


@contextmanager
def prometheus(directory: Path, targets: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """The URL of a Prometheus with the repository's rules that scrapes the `host:port` addresses of each job."""
    program = need(shutil.which("prometheus"), "prometheus: install it to check dashboards and rules")
    (port,) = free_ports(1)
    url = f"http://{HOST}:{port}"
    directory.mkdir(parents=True, exist_ok=True)
    # Evaluated every second, so that a test need not wait for a group's own half minute.
    rules = directory / RULES.name
    rules.write_text(RULES.read_text().replace("interval: 30s", "interval: 1s"))
    configuration = directory / "prometheus.yml"
    configuration.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(rules)],
                "scrape_configs": [
                    {"job_name": job, "static_configs": [{"targets": list(addresses)}]} for job, addresses in targets.items()
                ],
            }
        )
    )
    arguments = [
        f"--config.file={configuration}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={HOST}:{port}",
        "--log.level=warn",
    ]
    child = Child("Prometheus", [program, *arguments], directory / "prometheus.log")
    child.start()
    try:
        child.wait_until(lambda: _is_ready(url), 30)
        yield url
    finally:
        child.stop()


def wait_answered(url: str, queries: Iterable[tuple[str, str]], within_s: float = 40) -> None:
    """Returns when every query has data. Fails with those that have none after `within_s` seconds."""
    deadline = time.monotonic() + within_s
    open_queries = list(queries)
    while open_queries := [(title, query) for title, query in open_queries if not has_data(url, query)]:
        assert time.monotonic() < deadline, "no data for " + "\n".join(
            f"{title}: {filled(query)}" for title, query in open_queries
        )
        time.sleep(1)


def has_data(url: str, query: str) -> bool:
    """Whether the query gives at least one number now. Raises when Prometheus does not understand it."""
    answer = ask(url, "query", query=filled(query))
    return any(math.isfinite(float(sample["value"][1])) for sample in answer["result"])


def filled(query: str) -> str:
    """The query with the dashboard's variables put in."""
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    return query


def ask(url: str, path: str, **parameters: str) -> Any:
    """What Prometheus's API answers."""
    body = urllib.parse.urlencode(parameters).encode() if parameters else None
    with urllib.request.urlopen(f"{url}/api/v1/{path}", data=body, timeout=10) as answer:
        return json.load(answer)["data"]


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
