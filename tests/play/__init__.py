"""Tests of cocabench.play."""
