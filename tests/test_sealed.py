"""What is in a sealed item, beyond the bodies that dialogues show."""

import pytest

from archive_crypt.core.dialect import DIALECTS
from archive_crypt.model import SaveMode
from tests.kit import LAPTOP, House, key_info, unsealed

CHAMBER = "juliet@capulet.lit/chamber"
PAYLOAD = "\n hQEMA1vD7CJ5\n Ab+/x2w=\n"


@pytest.mark.clause("D374-09", "0374-1-01")
@pytest.mark.parametrize("mode", [SaveMode.BODY, SaveMode.MESSAGE])
@pytest.mark.parametrize("namespace", DIALECTS)
def test_openpgp_is_sealed_like_anything_else(namespace, mode):
    """Payload, mark and fallback are in the EncryptedData, and nowhere else; the payload word for word."""
    stream = House(save=mode).stream("romeo@montague.lit/orchard")
    key = key_info(LAPTOP, "laptop")
    stream.ask(
        f"<iq type='set' id='a'><auto xmlns='{namespace}' save='true' encrypt='true'>{key}</auto></iq>"
    )
    stream.hears(
        f"<message from='{CHAMBER}' type='chat'><body>fallback</body>"
        "<encryption xmlns='urn:xmpp:eme:0' namespace='urn:xmpp:openpgp:0'/>"
        f"<openpgp xmlns='urn:xmpp:openpgp:0'>{PAYLOAD}</openpgp></message>"
    )
    retrieve = f"<retrieve xmlns='{namespace}' with='{CHAMBER}' start='2026-11-21T10:00:00Z'/>"
    (page,) = stream.ask(f"<iq type='get' id='r'>{retrieve}</iq>")
    (item,) = unsealed(page, LAPTOP)
    assert item.tag == f"{{{namespace}}}from"
    assert item.findtext(f"{{{namespace}}}body") == "fallback"
    assert item.findtext("{urn:xmpp:openpgp:0}openpgp") == PAYLOAD
    assert item.find("{urn:xmpp:eme:0}encryption").get("namespace") == "urn:xmpp:openpgp:0"
    assert page.find(".//{*}openpgp") is None
