"""Stored Records: read, compare, gate, check against published numbers, import and export. No torch."""
