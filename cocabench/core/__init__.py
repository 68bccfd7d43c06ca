"""What every room uses, without torch: errors, values, signatures, number formats, files."""
