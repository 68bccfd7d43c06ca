"""The demo's data and checkpoints, and how they are made anew."""
