"""What all other packages use, without torch: errors, types, signatures, number formats, the cache."""

__version__ = "0.1.0"
