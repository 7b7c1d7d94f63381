"""Keys and ciphers: octets in, octets out. The only package that imports `cryptography`.

No reactor, no clock, no file of the server's and no log is touched here. Nothing is imported by
this module itself, so that the server can leave `opening`, the reader's half, unloaded.
"""
