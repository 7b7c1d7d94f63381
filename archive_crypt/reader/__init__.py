"""The reader: the program of the archive's owner, and the only place where a private key opens it.

It shares words, `core` and `crypto` with the server, and nothing else.
"""
