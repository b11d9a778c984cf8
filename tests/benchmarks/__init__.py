"""Speed of the worker beside its peers on genuine Kafka: `make bench`, or `python -m tests.benchmarks --help`."""
