"""Judging what runs: latency, accuracy of deployed files, the frontier, the picker, the report."""
