"""Rows about the model: the server that runs it, the versions, and how good they turn out to be."""

from deploy.grafana.panel import Panel, Query, Row, quantiles, query

_SERVING = 'inkling_model_info{%, version!=""}'
_ONLINE = '%, head=~"$head", horizon=~"$horizon"'


def _triton_per_request(what: str, legend: str) -> Query:
    return query(
        f"sum(rate(nv_inference_{what}_duration_us{{%}}[~])) / sum(rate(nv_inference_request_success{{%}}[~])) / 1e6", legend
    )


MODEL_SERVER = Row(
    "Model server",
    (
        Panel(
            "Scores by path",
            "The fallback answers when the model is away, late or refuses.",
            "cps",
            (query("sum by (path) (rate(inkling_scores_total{%}[~]))", "{{path}}"),),
            stacked=True,
        ),
        Panel(
            "Requests by result",
            "As the workers see them: ok, deadline, rejected, unavailable, breaker_open, unverified.",
            "reqps",
            (query("sum by (result) (rate(inkling_scorer_requests_total{%}[~]))", "{{result}}"),),
            stacked=True,
        ),
        Panel(
            "Time of a request",
            "As the workers see it, network and queue included.",
            "s",
            quantiles("inkling_scorer_seconds"),
        ),
        Panel(
            "Triton: time in a request",
            "Mean by part. Queue time that grows means that more instances are needed.",
            "s",
            (
                _triton_per_request("queue", "queue"),
                _triton_per_request("compute_input", "input"),
                _triton_per_request("compute_infer", "inference"),
                _triton_per_request("compute_output", "output"),
            ),
            stacked=True,
        ),
        Panel(
            "Triton: sessions in an execution",
            "How well requests are put together into batches.",
            "short",
            (
                query(
                    "sum by (model, version) (rate(nv_inference_count{%}[~]))"
                    " / sum by (model, version) (rate(nv_inference_exec_count{%}[~]))",
                    "{{model}} {{version}}",
                ),
            ),
        ),
        Panel(
            "Triton: requests by version, waiting and failed",
            "During a swap two versions answer side by side for a moment; none should fail.",
            "short",
            (
                query("sum by (version) (rate(nv_inference_request_success{%}[~]))", "version {{version}} per second"),
                query("sum by (version) (rate(nv_inference_request_failure{%}[~]))", "version {{version}} failed per second"),
                query("sum by (version) (nv_inference_pending_request_count{%})", "version {{version}} waiting"),
            ),
        ),
    ),
)

VERSIONS = Row(
    "Versions and online quality",
    (
        Panel(
            "Workers by version",
            "Which version each worker takes scores from. More than one for longer than a moment: a worker could not follow.",
            "short",
            (query(f"count by (version) ({_SERVING})", "version {{version}}"),),
            stacked=True,
        ),
        Panel(
            "Age of the newest label",
            "In the serving version. Above two fine-tuning cadences it is stale.",
            "s",
            (query("time() - max(inkling_model_trained_until_timestamp_seconds{%} > 0)", "age"),),
            kind="number",
            width=4,
        ),
        Panel(
            "Swaps",
            "Versions switched to, over the time shown, by all workers together.",
            "short",
            (query("sum(increase(inkling_model_swaps_total{%}[$__range]))", "swaps"),),
            kind="number",
            width=4,
        ),
        Panel(
            "Outcomes",
            "Scores whose horizon has passed, and those that still wait.",
            "short",
            (
                query("sum(rate(inkling_outcomes_total{%}[~]))", "joined per second"),
                query("sum(inkling_outcomes_pending{%})", "waiting"),
            ),
        ),
        Panel(
            "Log-loss",
            "On the newest matured labels, by version. Lower is better.",
            "none",
            (query(f"inkling_online_logloss{{{_ONLINE}}}", "{{version}} {{head}} {{horizon}}"),),
        ),
        Panel(
            "Calibration error",
            "Mean gap between what was foretold and what happened. The objective is at most 3 points.",
            "percentunit",
            (query(f"inkling_online_ece{{{_ONLINE}}}", "{{version}} {{head}} {{horizon}}"),),
            limits=(0.03,),
        ),
        Panel(
            "AUC",
            "How well visitors are ranked, by version. 0.5 is chance.",
            "none",
            (query(f"inkling_online_auc{{{_ONLINE}}}", "{{version}} {{head}} {{horizon}}"),),
        ),
    ),
)

#: When a version appears among the workers: drawn over every graph.
SWAPS = query(
    f"max by (version) ({_SERVING}) unless max by (version) ({_SERVING} offset 1m)",
    "version {{version}}",
)
