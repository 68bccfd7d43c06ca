"""Task files, model strings and entry points: parsing and lookup."""
