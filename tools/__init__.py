"""One-time scripts: what builds the demo's data and checkpoints. They are not in the wheel."""
