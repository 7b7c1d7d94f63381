"""XEP-0136 as a plugin of slixmpp's:
``client.register_plugin('xep_0136', module=archive_crypt.reader.xep_0136)``.
"""

from __future__ import annotations

from slixmpp.plugins.base import register_plugin

from archive_crypt.reader.xep_0136.archive import XEP_0136

register_plugin(XEP_0136)

__all__ = ["XEP_0136"]
