"""The playground: a page on which to try models on images."""

MODELS = "demo/coca,demo/coca-captioner"
"""The models of the page if none are named."""
