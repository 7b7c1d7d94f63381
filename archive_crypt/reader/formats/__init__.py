"""Files of conversations: what is read of an archive is written to them, and some are read back.

They know no server: what they write was read of one before, or comes out of another file.
"""
