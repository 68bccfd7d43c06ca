"""Metrics, intervals and tests: pure functions of per-sample statistics. No torch, no files."""
