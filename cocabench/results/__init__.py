"""Stored Records: read, compare, gate, hold against published numbers, translate. No torch."""
