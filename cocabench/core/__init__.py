"""What every room uses, without torch: errors, values, signatures, number formats, files."""

__version__ = "0.1.0"
