"""Faults, injected into a running archive while people talk: nothing that was acknowledged is lost or doubled."""
