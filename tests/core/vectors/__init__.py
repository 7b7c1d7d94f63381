"""Examples of XEP-0116, 0155, 0187, 0200, 0201, 0217, 0334, 0374 and 0380, as printed, by number."""

from pathlib import Path

from tests.kit import element


def printed(name):
    """The stanza of an example: "0155-01" is the first one of XEP-0155."""
    return element((Path(__file__).parent / f"{name}.xml").read_text())


def printed_in(xep):
    """The names of all examples of a XEP that are here."""
    return sorted(path.stem for path in Path(__file__).parent.glob(f"{xep}-*.xml"))
