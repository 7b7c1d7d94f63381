"""Tests against real XMPP servers. ``make test-servers`` installs those and runs these; plain ``make test`` does not."""
