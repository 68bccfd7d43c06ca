"""Captions and their likelihoods from an open_clip CoCa, without transformers; the main function is `generate`."""
