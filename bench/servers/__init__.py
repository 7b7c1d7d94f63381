"""``make bench-servers``: real servers alone, with their own archive, and with archive_crypt beside them.

All on one PostgreSQL, in one run; what is said of speed is a ratio to a floor measured in between.
"""
