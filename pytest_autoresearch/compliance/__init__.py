"""
What the stock gates stand on: PII scanners, cohort aggregates, fairness measures, leakage checks.

Each module is arithmetic on arrays and text and decides nothing; thresholds stand in the configuration, and
the gates in the harness directory apply them.
"""
