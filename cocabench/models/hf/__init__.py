"""Checkpoints of the transformers library as models: ``transformers::FOLDER`` and ``transformers::ORG/NAME``."""
