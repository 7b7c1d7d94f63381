"""Long lists, paged by a client of the real house; what is short is in tests/dialogues."""

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.core.dialect import DIALECTS, RSM
from archive_crypt.core.xmlenc import XMLDSIG, XMLENC

KEY = (
    f"<EncryptedKey xmlns='{XMLENC}'><KeyInfo xmlns='{XMLDSIG}'><KeyName>laptop</KeyName></KeyInfo>"
    "<CarriedKeyName>k{0}</CarriedKeyName></EncryptedKey>"
)


@pytest.mark.clause("0241-6-04", "rsm-18")
@pytest.mark.parametrize("namespace", DIALECTS)
@ensureDeferred
async def test_keys_of_many_collections(real_house, namespace):
    """The keys in 60 collections come in pages of 50 and of 10 collections, however many keys these have."""

    async def page(inner):
        name = f"<KeyName xmlns='{XMLDSIG}'>laptop</KeyName>"
        keys = f"<keys xmlns='{namespace}'>{name}<set xmlns='{RSM}'><max>50</max>{inner}</set></keys>"
        answer = await romeo.asks(f"<iq type='get' id='k'>{keys}</iq>")
        shown = answer.find(f"{{{namespace}}}keys")
        return [chat.get("start")[14:19] for chat in shown.iter(f"{{{namespace}}}chat")], shown.find("{*}set")

    await real_house.begins()
    try:
        romeo = await real_house.stream("romeo@montague.lit/orchard")
        for minute in reversed(range(60)):
            keys = "".join(KEY.format(n) for n in range(1 + minute % 3))
            chat = f"<chat with='juliet@capulet.lit' start='1469-07-21T02:{minute:02}:00Z'>{keys}</chat>"
            await romeo.asks(f"<iq type='set' id='s'><save xmlns='{namespace}'>{chat}</save></iq>")
        starts, first = await page("")
        assert starts == [f"{minute:02}:00" for minute in range(50)]
        assert (first.find("{*}first").get("index"), first.findtext("{*}count")) == ("0", "60")
        starts, second = await page(f"<after>{first.findtext('{*}last')}</after>")
        assert starts == [f"{minute:02}:00" for minute in range(50, 60)]
        assert (second.find("{*}first").get("index"), second.findtext("{*}count")) == ("50", "60")
    finally:
        await real_house.ends()
