"""The figures of README: ``make bench``. Ratios to floors measured in the same run on the same machine."""
