"""Rows about serving: the objective, the traffic, the stages of the worker, and what a rebalance costs."""

from deploy.grafana.panel import Panel, Query, Row, quantiles, query


def _burn(window: str) -> Query:
    late = (
        f'1 - sum(rate(inkling_event_to_score_seconds_bucket{{%, le="0.25"}}[{window}]))'
        f" / sum(rate(inkling_event_to_score_seconds_count{{%}}[{window}]))"
    )
    return query(f"({late}) / 0.001", window)


EVENT_TO_SCORE = Row(
    "Event to score",
    (
        Panel(
            "Scores within 250 ms",
            "Share of scores confirmed within 250 ms of their event, over the time shown. The objective is 99.9%.",
            "percentunit",
            (
                query(
                    'sum(increase(inkling_event_to_score_seconds_bucket{%, le="0.25"}[$__range]))'
                    " / sum(increase(inkling_event_to_score_seconds_count{%}[$__range]))",
                    "in time",
                ),
            ),
            kind="number",
            width=5,
            limits=(0.99, 0.999),
            better="high",
        ),
        Panel(
            "Scores per second",
            "Scores that Kafka has confirmed.",
            "cps",
            (query("sum(rate(inkling_scores_total{%}[~]))", "scores"),),
            kind="number",
            width=5,
        ),
        Panel(
            "Event to score",
            "From the event's Kafka timestamp to its confirmed score.",
            "s",
            quantiles("inkling_event_to_score_seconds"),
            width=14,
            limits=(0.25,),
        ),
        Panel(
            "Burn rate",
            "How many times too fast the objective's 0.1% is spent. Alerts: 14.4 over 1 h, 6 over 6 h, 1 over 3 d.",
            "none",
            (_burn("1h"), _burn("6h"), _burn("3d")),
            width=10,
            limits=(1, 14.4),
        ),
        Panel(
            "Event to score, all of it",
            "Every score by its latency: two bands mean two kinds of events.",
            "s",
            (query("sum by (le) (increase(inkling_event_to_score_seconds_bucket{%}[~]))", "{{le}}"),),
            kind="heatmap",
            width=14,
        ),
    ),
)

TRAFFIC = Row(
    "Traffic and dead letters",
    (
        Panel(
            "Events by partition",
            "Records taken from the clicks topic. One partition far above the others: one visitor with very many events.",
            "cps",
            (query("sum by (partition) (rate(inkling_events_total{%}[~]))", "partition {{partition}}"),),
            stacked=True,
        ),
        Panel(
            "Lag",
            "How far each partition's scores are behind its events. The objective is 5 s.",
            "s",
            (query("max by (partition) (inkling_consumer_lag_seconds{%})", "partition {{partition}}"),),
            limits=(5,),
        ),
        Panel(
            "Records waiting",
            "Records in Kafka that are not finished yet.",
            "short",
            (query("sum by (partition) (inkling_consumer_lag_events{%})", "partition {{partition}}"),),
        ),
        Panel(
            "Dead letters by reason",
            "Records that are no events. `inkling dlq list` shows them.",
            "cps",
            (query("sum by (reason) (rate(inkling_dead_letters_total{%}[~])) > 0", "{{reason}}"),),
            stacked=True,
        ),
        Panel(
            "Share of dead letters",
            "Of all records. The objective is at most 0.1%.",
            "percentunit",
            (query("sum(rate(inkling_dead_letters_total{%}[~])) / sum(rate(inkling_events_total{%}[~]))", "dead letters"),),
            limits=(0.001, 0.0144),
        ),
        Panel(
            "What events did to their sessions",
            "Appended, new session, late but repaired. Duplicates and what is past the grace period are dropped.",
            "cps",
            (query("sum by (outcome) (rate(inkling_session_outcomes_total{%}[~]))", "{{outcome}}"),),
            stacked=True,
        ),
    ),
)

STAGES = Row(
    "Stages",
    (
        Panel(
            "Time by stage, p99",
            "One batch in each stage: fold (decode, session, encode), score (model), publish (Kafka).",
            "s",
            (
                query(
                    "histogram_quantile(0.99, sum by (le, stage) (rate(inkling_stage_seconds_bucket{%}[~])))",
                    "{{stage}}",
                ),
            ),
        ),
        Panel(
            "Share of time by stage",
            "Seconds a second that all workers together spend in each stage.",
            "none",
            (query("sum by (stage) (rate(inkling_stage_seconds_sum{%}[~]))", "{{stage}}"),),
            stacked=True,
        ),
        Panel("Events in a batch", "Larger batches under load are as intended.", "short", quantiles("inkling_batch_events")),
        Panel(
            "Event loop lag, p99",
            "How late the workers' event loops are for what is due. Every score waits that long, the model's answers too.",
            "s",
            (
                query(
                    "histogram_quantile(0.99, sum by (le, instance) (rate(inkling_event_loop_lag_seconds_bucket{%}[~])))",
                    "{{instance}}",
                ),
            ),
            limits=(1,),
        ),
        Panel(
            "CPU",
            "Cores in use by each process.",
            "none",
            (query("sum by (job, instance) (rate(process_cpu_seconds_total{%}[~]))", "{{job}} {{instance}}"),),
        ),
        Panel(
            "Memory",
            "Resident memory of each process. It must stay flat under constant load.",
            "bytes",
            (query("sum by (job, instance) (process_resident_memory_bytes{%})", "{{job}} {{instance}}"),),
        ),
    ),
)

RECOVERY = Row(
    "Recovery and rebalance",
    (
        Panel(
            "Rebalances",
            "How long it took until the new partitions were ready. The objective is 10 s.",
            "s",
            quantiles("inkling_rebalance_seconds"),
            limits=(10,),
        ),
        Panel(
            "Recovery",
            "Time to read one partition's sessions back. The objective is 30 s.",
            "s",
            quantiles("inkling_recovery_seconds"),
            limits=(30,),
        ),
        Panel(
            "Sent again",
            "Batches that Kafka did not confirm at the first try.",
            "cps",
            (query("sum by (instance) (rate(inkling_delivery_retries_total{%}[~]))", "{{instance}}"),),
        ),
        Panel(
            "Live sessions",
            "Sessions in memory. They expire when the gap has passed.",
            "short",
            (query("sum by (instance) (inkling_live_sessions{%})", "{{instance}}"),),
            stacked=True,
        ),
        Panel(
            "State written",
            "Bytes of sessions written to the changelog.",
            "Bps",
            (query("sum by (instance) (rate(inkling_changelog_bytes_total{%}[~]))", "{{instance}}"),),
            stacked=True,
        ),
        Panel(
            "Open files",
            "File handles of each process. They must stay flat.",
            "short",
            (query("sum by (job, instance) (process_open_fds{%})", "{{job}} {{instance}}"),),
        ),
    ),
)
