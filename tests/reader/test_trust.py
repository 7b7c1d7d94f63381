"""The trust file: what is not confirmed in it is trusted in no way, and nothing makes more of it than the user."""

import multiprocessing
import os
import stat

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.reader import files, trust
from archive_crypt.reader.failures import Problem
from tests.kit import LAPTOP, PHONE

ONE, TWO = LAPTOP.public().name, PHONE.public().name


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "trust.json"


@pytest.mark.clause("0241-2-06")
def test_nothing_is_trusted_at_first(path):
    """Without a file no key is confirmed, and asking makes none."""
    assert trust.load(path) == {}
    assert not path.parent.exists()


@pytest.mark.clause("0241-2-05")
def test_wrapped_for_confirmed_keys_only(path):
    """Keys are told apart by what they are, not by what they are called."""
    trust.confirm(path, [ONE])
    pretender = PHONE.public(name=ONE)
    keys = [LAPTOP.public(), PHONE.public(), pretender, LAPTOP.public(name="called otherwise")]
    own, others = trust.divide(keys, trust.load(path))
    assert own == [keys[0], keys[3]]
    assert others == [keys[1], pretender]


def test_confirmed_and_withdrawn(path):
    """A key is confirmed once, from its time on, until that is withdrawn; others stay as they are."""
    assert trust.confirm(path, [ONE, TWO, ONE]) == [ONE, TWO]
    before = trust.load(path)
    assert trust.confirm(path, [TWO]) == []
    assert trust.load(path) == before
    assert trust.withdraw(path, [ONE]) == [ONE]
    assert trust.withdraw(path, [ONE]) == []
    assert trust.load(path) == {TWO: before[TWO]}


def test_names_are_kept(path):
    """By which names a key was published is known for good: each once, whether the key is confirmed, was, or
    never was. That makes none trusted."""
    trust.remember(path, [(ONE, "mine"), (ONE, ONE), (TWO, "his")])
    assert trust.load(path) == {}
    trust.confirm(path, [ONE])
    trust.remember(path, [(ONE, "again"), (ONE, "mine")])
    trust.withdraw(path, [ONE])
    assert trust.names(path) == {ONE: ("mine", "again"), TWO: ("his",)}
    assert trust.load(path) == {}


def test_so_many_names_are_kept(path):
    """Of one key the first 32 names are kept, and what is not is told; other keys are not touched by that."""
    called = [(ONE, f"name {number}") for number in range(33)]
    assert trust.remember(path, [*called, (TWO, "his")]) == called[32:]
    assert trust.remember(path, called) == called[32:]
    assert trust.names(path) == {ONE: tuple(name for _, name in called[:32]), TWO: ("his",)}


def test_what_is_known_is_not_written(path):
    """Where there is no new name, no file is made or touched."""
    trust.remember(path, [(ONE, ONE)])
    assert not path.parent.exists()
    trust.remember(path, [(ONE, "mine")])
    before = path.stat().st_mtime_ns
    trust.remember(path, [(ONE, "mine")])
    assert path.stat().st_mtime_ns == before


def test_a_file_without_names(path):
    """A file of before there were names in it is read, and may get some."""
    path.parent.mkdir()
    files.replace(path, f'{{"version": 1, "confirmed": {{"{ONE}": {{"at": "2026-11-21"}}}}}}'.encode())
    trust.remember(path, [(ONE, "mine")])
    assert (list(trust.load(path)), trust.names(path)) == ([ONE], {ONE: ("mine",)})


def test_for_its_owner_only(path):
    """The file and its folder are for its owner's eyes, whatever the umask."""
    old = os.umask(0)
    try:
        trust.confirm(path, [ONE])
    finally:
        os.umask(old)
    assert [stat.S_IMODE(found.stat().st_mode) for found in (path, path.parent)] == [0o600, 0o700]
    assert sorted(os.listdir(path.parent)) == ["trust.json", "trust.json.lock"]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_written_by_others_it_tells_nothing(path, mode):
    """A file that others could have written is not believed: that is said, and it is left as it is."""
    trust.confirm(path, [ONE])
    path.chmod(mode)
    for ask in (
        trust.load,
        lambda path: trust.confirm(path, [TWO]),
        lambda path: trust.remember(path, [(ONE, "mine")]),
        lambda path: trust.withdraw(path, [ONE]),
    ):
        with pytest.raises(Problem, match="can be changed by others.*chmod 600"):
            ask(path)
    path.chmod(0o600)
    assert list(trust.load(path)) == [ONE]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '{"version": 2, "confirmed": {}}',
        '{"version": 1}',
        '{"version": 1, "confirmed": ["x"]}',
        '{"version": 1, "confirmed": {"x": {"at": "2026-11-21T10:00:00+00:00"}}}',
        f'{{"version": 1, "confirmed": {{"{ONE}": {{"at": "x"}}}}}}',
        f'{{"version": 1, "confirmed": {{"{ONE}": {{}}}}}}',
        f'{{"version": 1, "confirmed": {{"{ONE}": {{"at": 1}}}}}}',
        f'{{"version": 1, "confirmed": {{"{ONE}": 7}}}}',
        f'{{"version": 1, "confirmed": {{}}, "names": {{"{ONE}": "mine"}}}}',
        f'{{"version": 1, "confirmed": {{}}, "names": {{"{ONE}": [7]}}}}',
        f'{{"version": 1, "confirmed": {{}}, "names": {{"{ONE}": [""]}}}}',
        '{"version": 1, "confirmed": {}, "names": {"x": ["mine"]}}',
        '{"version": 1, "confirmed": {}, "names": []}',
        "[" * 100_000,
    ],
)
def test_damaged_it_tells_nothing(path, content):
    """Of a damaged file not even the rest is believed, and it is never written over."""
    path.parent.mkdir()
    path.write_text(content)
    path.chmod(0o600)
    for ask in (
        trust.load,
        trust.names,
        lambda path: trust.confirm(path, [ONE]),
        lambda path: trust.remember(path, [(ONE, "mine")]),
    ):
        with pytest.raises(Problem, match="damaged"):
            ask(path)
    assert path.read_text() == content


@pytest.mark.parametrize("text", ["", "x", ONE[:-1], f"{ONE} ", ONE[:42] + "9=", "é" * 44, "A" * 44])
def test_what_is_no_fingerprint_is_confirmed_in_no_way(path, text):
    """A fingerprint is told whole and in its one form, or not at all."""
    with pytest.raises(Problem, match="neither a file nor a fingerprint"):
        trust.confirm(path, [text])
    assert trust.load(path) == {}


def test_left_by_a_crash(path):
    """What a crash left half written is in nobody's way, and never read."""
    trust.confirm(path, [ONE])
    path.with_name("trust.json.new").write_text("half")
    trust.confirm(path, [TWO])
    assert set(trust.load(path)) == {ONE, TWO}


def _confirm(path, number):
    trust.confirm(path, [_name(number)])


def _name(number):
    return f"{number:02}{ONE[2:]}"


def test_two_at_once(path):
    """Of what several programs confirm at once nothing is lost."""
    context = multiprocessing.get_context("fork")
    programs = [context.Process(target=_confirm, args=(path, number)) for number in range(20)]
    for program in programs:
        program.start()
    for program in programs:
        program.join()
    assert set(trust.load(path)) == {_name(number) for number in range(20)}


def test_where_it_cannot_be(tmp_path):
    """A folder that cannot be made is told by its name."""
    (tmp_path / "file").touch()
    with pytest.raises(Problem, match="file/trust.json.lock cannot be made: "):
        trust.confirm(tmp_path / "file" / "trust.json", [ONE])
    (tmp_path / "trust.json").mkdir()
    with pytest.raises(Problem, match="trust.json cannot be written: "):
        files.replace(tmp_path / "trust.json", b"x")
    assert not (tmp_path / "trust.json.new").exists()


@ensureDeferred
async def test_a_key_that_is_made_is_confirmed(reader, tmp_path):
    """What keygen makes is the user's own; where that cannot be noted, no key is made."""
    done = await reader("keygen", "--out", tmp_path / "k", "--bits", 2048, "--no-passphrase", "--json")
    assert list(trust.load(trust.default_path())) == [done.lines[0]["fingerprint"]]
    trust.default_path().chmod(0o666)
    done = await reader("keygen", "--out", tmp_path / "l", "--bits", 2048, "--no-passphrase")
    assert done.code == 1
    assert not (tmp_path / "l").exists()
