"""Captions and their likelihoods from an open_clip CoCa, without transformers; `generate` is the way in."""
