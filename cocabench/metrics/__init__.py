"""What numbers mean: pure functions from per-sample statistics to metrics and their intervals. No torch, no files."""
