"""The names of 0.1 for the cache's folder and limit, until captioneval's caches are spaces of core.cache."""

from cocabench.core.cache import cache_folder as location
from cocabench.core.cache import size_limit as limit

SCORES_SHARE = 0.1
"""What caption scores may take of the limit."""

__all__ = ["SCORES_SHARE", "limit", "location"]
