"""The archive beside another server, as its component: begin with host.py."""
