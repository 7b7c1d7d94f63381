"""XEP-0155, as far as logging is concerned, as a plugin of slixmpp's:
``client.register_plugin('xep_0155', module=archive_crypt.reader.xep_0155)``.
"""

from __future__ import annotations

from slixmpp.plugins.base import register_plugin

from archive_crypt.reader.xep_0155.session import XEP_0155

register_plugin(XEP_0155)

__all__ = ["XEP_0155"]
