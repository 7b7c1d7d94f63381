"""XEP-0241 as a plugin of slixmpp's:
``client.register_plugin('xep_0241', module=archive_crypt.reader.xep_0241)``.
"""

from __future__ import annotations

from slixmpp.plugins.base import register_plugin

from archive_crypt.reader.xep_0241.encryption import XEP_0241

register_plugin(XEP_0241)

__all__ = ["XEP_0241"]
