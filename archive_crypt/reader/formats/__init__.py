"""Files of conversations: what is read of an archive is written to them, and some are read back.

They know neither server nor key: what a file holds is already open, or stays sealed.
"""
