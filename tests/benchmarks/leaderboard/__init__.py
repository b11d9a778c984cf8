"""All techniques on simulated and real logs, on one protocol."""
