"""Speed and memory, both sides in one run. ``python -m benchmarks [NAME …] [--json]``; RESULTS.md keeps what was seen."""
