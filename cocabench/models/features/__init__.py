"""Features that were computed once, kept in the user's cache folder: a second task on the same images reads them."""

from cocabench.models.features.cache import Cache, Usage
from cocabench.models.features.cached import Cached, collection
from cocabench.models.features.opening import clear, existing, folder, limit, open_cache

__all__ = ["Cache", "Cached", "Usage", "clear", "collection", "existing", "folder", "limit", "open_cache"]
