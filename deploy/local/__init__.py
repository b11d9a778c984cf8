"""The local stack: Kafka, Triton and (where installed) Prometheus as child processes, for the demo, development and tests.

    from deploy.local.stack import LocalStack
    from deploy.local.topics import standard_topics
    from worker.settings import TopicSettings

    with LocalStack(Path("/tmp/somewhere"), with_triton=False, with_prometheus=False) as stack:
        stack.create_topics(standard_topics(TopicSettings()))
        stack.addresses.kafka             # "127.0.0.1:23412", for bootstrap_servers
        stack.addresses.triton_grpc       # "127.0.0.1:23415", or None
        stack.addresses.model_repository  # the folder that Triton serves: publish versions there

Or `stack = LocalStack(...)`, `stack.start(progress=print)`, `stack.stop()`. Errors are `deploy.local.errors.StackError`.
Single parts for fault runs: `stack.kafka`, `stack.triton`, `stack.prometheus`, each with `child.id.pid`, `stop()`, and
`launch(print)` followed by `wait_ready()` to start it again on the same ports and data.
`stack.prometheus.set_targets("worker", ["127.0.0.1:9464"])` says what to scrape.

Tests have it as fixtures (tests/conftest.py): `kafka` (a bootstrap address), `stack` (a LocalStack with Kafka and Triton),
`topic_names` (TopicSettings with names of the test's own) and `topics` (the same, made on `kafka`).

From the shell: `inkling stack up`, `eval "$(inkling stack env)"`, `inkling stack down`.
"""
