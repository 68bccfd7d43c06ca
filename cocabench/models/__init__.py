"""Checkpoints: what a model string means, how it is loaded, and how it encodes and captions."""
