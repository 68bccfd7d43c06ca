"""Speed and memory, both sides in one run: ``python -m benchmarks [NAME …] [--json]``."""
