"""What users write, parsed and found: task files, model strings, entry points."""
