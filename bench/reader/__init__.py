"""What the reader does with a large archive: ``make bench-reader``."""
