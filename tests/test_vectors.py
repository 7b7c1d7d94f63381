"""Plays the requests that XEP-0136 (0.13, 0.17, 1.3.1) and XEP-0241 print as examples.

tests/vectors holds them as printed; its expected.tsv says of each, in the order of the documents:
who sends it, after which others of its document it comes in an otherwise empty archive, what the
answer is (result, or type and condition of the error), an XPath that is true of it (prefixes: see
PREFIXES), and a remark. An example's number is the second part of its file name; example keys and
ciphertext are but placeholders, and so are the names that other servers gave to items.
"""

import csv
from pathlib import Path

import pytest
from lxml import etree
from pytest_twisted import ensureDeferred

from archive_crypt.core.dialect import DIALECTS, RSM, F, T
from archive_crypt.core.xmlenc import XMLENC
from tests.dialogue import STANZAS
from tests.realhouse import RealHouse

FOLDER = Path(__file__).parent / "vectors"
USERS = {"romeo": "romeo@montague.net/orchard", "juliet": "juliet@capulet.com/chamber"}
PREFIXES = {
    "r": RSM,
    "e": XMLENC,
    "k": "http://www.w3.org/2000/09/xmldsig#",
    "d": "http://jabber.org/protocol/disco#info",
}


def table():
    with (FOLDER / "expected.tsv").open() as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


EVERY = table()
OF_0241 = [row for row in EVERY if row["file"].startswith("0241") and row["file"][5:7] != "16"]


@pytest.fixture(scope="module")
def example_house(postgres):
    """The house that the examples are from."""
    house = RealHouse(postgres, {"romeo": "montague.net", "juliet": "capulet.com"})
    yield house
    house.close()


def name(row):
    return row["file"].removesuffix(".xml")


def chain(row):
    """The files that are played, the row's own last."""
    document = row["file"].split("-")[0]
    before = [next(FOLDER.glob(f"{document}-{number}-*")) for number in row["after"].split()]
    return [*before, FOLDER / row["file"]]


async def play(row, house, change=lambda xml: xml):
    """The request that was played last, its answer, and the answers that came without a question."""
    await house.begins()
    try:
        stream = await house.stream(USERS[row["user"]])
        for path in chain(row):
            xml = change(path.read_text())
            answer = await stream.asks(xml)
        return etree.fromstring(xml), answer, await stream.unasked_answers()
    finally:
        await house.ends()


def outcome(answer):
    """As the table has it."""
    error = answer.find("{jabber:client}error")
    if error is None:
        return answer.get("type")
    conditions = [child for child in error if etree.QName(child).namespace == STANZAS]
    return f"{error.get('type')} {etree.QName(conditions[0]).localname}"


def is_true_of(answer, check, namespace):
    return not check or answer.xpath(check, namespaces={**PREFIXES, "a": namespace})


def archive_namespace(request):
    namespace = etree.QName(request[0]).namespace
    return namespace if namespace in DIALECTS else F.namespace


def test_every_example_is_in_the_table():
    assert {row["file"] for row in EVERY} == {path.name for path in FOLDER.glob("*.xml")}


@pytest.mark.clause("0136-intro-01", "0136-manual-intro-01")
@pytest.mark.parametrize("row", EVERY, ids=name)
@ensureDeferred
async def test_an_example_gets_one_answer_the_documented_one(row, example_house):
    request, answer, more = await play(row, example_house)
    assert not more
    assert (answer.get("id"), answer.get("to")) == (request.get("id"), USERS[row["user"]])
    assert outcome(answer) == row["answer"], etree.tostring(answer)
    assert is_true_of(answer, row["check"], archive_namespace(request)), etree.tostring(answer)


@pytest.mark.clause("0241-10-01")
@pytest.mark.parametrize("row", OF_0241, ids=name)
@ensureDeferred
async def test_the_examples_of_0241_mean_the_same_in_the_final_namespace(row, example_house):
    def final(xml):
        return xml.replace(T.namespace, F.namespace)

    _, answer, _ = await play(row, example_house, final)
    assert outcome(answer) == row["answer"]
    assert is_true_of(answer, row["check"], F.namespace), etree.tostring(answer)
