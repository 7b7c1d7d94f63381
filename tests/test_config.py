"""The operator's file."""

import json
import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from archive_crypt.config import _ARCHIVE, SECRET, Component, Config, Database, Hardening, Host, load
from archive_crypt.errors import ConfigurationError
from archive_crypt.hosts.limits import Limits
from archive_crypt.model import SaveMode, Settings, UserLimits, WhenFull


def loaded(tmp_path, text):
    path = tmp_path / "archive.toml"
    path.write_text(text)
    return load(path)


def complaint(tmp_path, text):
    with pytest.raises(ConfigurationError) as caught:
        loaded(tmp_path, text)
    return str(caught.value).removeprefix(f"{tmp_path}/")


def test_empty_file(tmp_path):
    """An empty file means all defaults."""
    assert loaded(tmp_path, "") == Config()


EVERYTHING = """
[database]
dsn = "postgresql:///archive"
readers = 2
[archive]
save = "message"
encryption = false
minimum_key_bits = 1024
silence = 300
seal = "aes128-cbc"
wrap = "rsa-oaep-mgf1p"
collections_a_page = 50
items_a_page = 20
[host]
domain = "montague.lit"
interface = "::1"
port = 0
data = "/srv/archive"
[host.users]
romeo = "secret"
[host.limits]
connections = 5
idle = 30
[archive.limits]
octets = 5000000000
when_full = "expire"
"""


def test_everything(tmp_path):
    """Every setting there is, in one file."""
    config = loaded(tmp_path, EVERYTHING)
    assert (config.database.dsn, config.database.readers) == ("postgresql:///archive", 2)
    assert config.archive.save is SaveMode.MESSAGE
    assert not config.archive.encryption
    assert (config.archive.minimum_bits, config.archive.silence) == (1024, 300.0)
    assert config.archive.seal_algorithm == "http://www.w3.org/2001/04/xmlenc#aes128-cbc"
    assert config.archive.wrap_algorithm == "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p"
    assert (config.archive.most_collections, config.archive.most_items) == (50, 20)
    assert (config.host.domain, config.host.interface, config.host.port) == ("montague.lit", "::1", 0)
    assert config.host.users == {"romeo": "secret"}
    assert config.host.limits == Limits(connections=5, idle=30.0)
    assert config.archive.limits == UserLimits(octets=5_000_000_000, when_full=WhenFull.EXPIRE)


def test_every_limit(tmp_path):
    """Every limit of the host can be set."""
    limits = {name: value + 1 for name, value in asdict(Limits()).items()}
    lines = "\n".join(f"{name} = {value}" for name, value in limits.items())
    assert asdict(loaded(tmp_path, f"[host.limits]\n{lines}").host.limits) == limits


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[archive]\nsave = 'body'\nsaev = 'x'",
            "archive.toml:3: archive.saev: is unknown; known here are save,",
        ),
        ("\n[archiv]", "archive.toml:2: archiv: is unknown; known here are database, archive, host"),
        (
            "[archive]\nsave = 'stream'",
            "archive.toml:2: archive.save: write one of 'false', 'body', 'message'",
        ),
        ("[archive]\nencryption = 'yes'", "archive.toml:2: archive.encryption: write true or false"),
        ("[archive]\nminimum_key_bits = 512", "archive.toml:2: archive.minimum_key_bits: write 1024 or more"),
        ("[archive]\nsilence = -1", "archive.toml:2: archive.silence: write a number above 0"),
        ("[archive]\nsilence = nan", "archive.toml:2: archive.silence: write a number above 0"),
        ("[archive]\nexpiry_every = inf", "archive.toml:2: archive.expiry_every: write a number above 0"),
        ("[archive]\nsilence = 1e300", "archive.toml:2: archive.silence: write a number above 0"),
        (f"[archive]\nsilence = {10**400}", "archive.toml:2: archive.silence: write a number above 0"),
        (f"[archive]\nexpire = {10**30}", "archive.toml:2: archive.expire: write a whole number from 1 to"),
        ("[archive]\nwrap = 'rsa'", "archive.toml:2: archive.wrap: write one of 'rsa-oaep'"),
        ("[database]\n\nreaders = 0", "archive.toml:3: database.readers: write a whole number from 1 to"),
        ("[database]\nwaiting_octets = 9", "archive.toml:2: database.waiting_octets: write 1048576 or more"),
        ("[host]\nport = '5222'", "archive.toml:2: host.port: write a whole number from 0 to 65535"),
        ("[host]\nport = 70000", "archive.toml:2: host.port: write a whole number from 0 to 65535"),
        ("[host]\nport = -1", "archive.toml:2: host.port: write a whole number from 0 to 65535"),
        ("[host]\ndomain = 'bad domain@/'", "archive.toml:2: host.domain: write a domain, such as"),
        ("[host]\ndomain = 'romeo@montague.lit'", "archive.toml:2: host.domain: write a domain, such as"),
        ("[host]\ndomain = 'montague.lit/x'", "archive.toml:2: host.domain: write a domain, such as"),
        ("[host]\ndomain = ''", "archive.toml:2: host.domain: write a domain, such as"),
        ("[host.limits]\ndepths = 1", "archive.toml:2: host.limits.depths: is unknown; known here are conn"),
        ("[host.limits]\ndepth = 0", "archive.toml:2: host.limits.depth: write a whole number from 1 to"),
        ("[host.limits]\nlogin = nan", "archive.toml:2: host.limits.login: write a number above 0"),
        ("[host.limits]\nstanza = 9999", "archive.toml:2: host.limits.stanza: write 10000 or more"),
        ("[host.limits]\nunsent = 1", "archive.toml:1: host.limits.stanza: write no more than unsent, 1"),
        ("[archive]\nlimits = 1", "archive.toml:2: archive.limits: write it as a table, [archive.limits]"),
        (
            "[archive.limits]\noctet = 1",
            "archive.toml:2: archive.limits.octet: is unknown; known here are oct",
        ),
        (
            "[archive.limits]\noctets = 0",
            "archive.toml:2: archive.limits.octets: write a whole number from 1 to 9",
        ),
        (
            "[archive.limits]\nwhen_full = 1",
            "archive.toml:2: archive.limits.when_full: write one of 'refuse', 'expire'",
        ),
        ("[host]\nlimits = 1", "archive.toml:2: host.limits: write it as a table, [host.limits]"),
        ("[host.users]\nromeo = 1", "archive.toml:2: host.users.romeo: write a text in quotation marks"),
        ("[host]\nusers.romeo = 1", "archive.toml:2: host.users.romeo: write a text in quotation marks"),
        ("archive = 1", "archive.toml:1: archive: write it as a table, [archive]"),
        ("[archive", "archive.toml: is not TOML: "),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, said):
    """A mistake is told in one line with the file, the line, the setting and the mend."""
    assert complaint(tmp_path, text).startswith(said)


def test_no_file(tmp_path):
    """A file that is not there is named."""
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml: cannot be read"):
        load(tmp_path / "nowhere.toml")


def test_no_secret_is_repeated(tmp_path):
    """A complaint never repeats a value: it could be a password."""
    assert "hunter2" not in complaint(tmp_path, "[host]\nport = 'hunter2'")


def documented():
    """The settings that docs/configuration.rst tells of: (table, name) -> the default, as TOML."""
    text = (Path(__file__).parents[1] / "docs" / "configuration.rst").read_text()
    found, table = {}, ""
    for line in text.splitlines():
        if header := re.fullmatch(r"\[([\w.]+)\]", line):
            table = header[1]
        elif row := re.match(r"``(\w+)`` +(\S+)  +\S", line):
            assert (table, row[1]) not in found
            found[table, row[1]] = row[2]
    return found


def test_every_setting_is_documented():
    """docs/configuration.rst names every setting there is, and no other."""
    known = {("database", f.name) for f in fields(Database)}
    known |= {("archive", name) for name in _ARCHIVE} - {("archive", "limits")}
    known |= {("archive.limits", f.name) for f in fields(UserLimits)}
    known |= {("host", f.name) for f in fields(Host)} - {("host", "users"), ("host", "limits")}
    known |= {("host.limits", f.name) for f in fields(Limits)}
    known |= {("component", f.name) for f in fields(Component)}
    known |= {("hardening", f.name) for f in fields(Hardening)}
    assert set(documented()) == known


def test_the_documented_defaults_are_the_defaults(tmp_path):
    """A file with all the defaults that docs/configuration.rst tells means what an empty one does."""
    tables = {}
    for (table, name), default in documented().items():
        tables.setdefault(table, []).append(f"{name} = {default}" if default != "none" else "")
    component = tables.pop("component")
    text = "\n".join(line for table, lines in tables.items() for line in [f"[{table}]", *lines])
    assert loaded(tmp_path, text) == Config()
    set_ones = {"jid": "archive.example.org", "domains": ["example.org"]}
    text = "\n".join(
        ["[component]", *(f"{n} = {json.dumps(v)}" for n, v in set_ones.items()), *component[2:]]
    )
    assert loaded(tmp_path, text).component == Component("archive.example.org", ("example.org",))
    nothing = {name for (_, name), default in documented().items() if default == "none"}
    assert nothing == {name for name, field in _ARCHIVE.items() if getattr(Settings(), field) is None}


COMPONENT = """
[component]
jid = "archive.example.org"
domains = ["example.org", "Example.COM"]
"""


def test_component(tmp_path):
    """Domains are prepared as XMPP has them, as that is how servers write them."""
    component = loaded(tmp_path, COMPONENT).component
    assert component.domains == ("example.org", "example.com")
    assert (component.server, component.port, component.tls) == ("127.0.0.1", 5347, False)


@pytest.mark.parametrize(
    ("more", "line", "mend"),
    [
        ('domains = "example.org"', 4, "a list"),
        ("domains = []", 4, "the server's domains"),
        ('domains = ["a@example.org"]', 4, "a domain"),
        ('domains = ["archive.example.org"]', 3, "a name of its own"),
        ('server = "192.0.2.1"', 5, "true"),
        ('server = "xmpp.example.org"', 5, "true"),
        ("secret = 'x'", 5, "unknown"),
        ("[host]\nport = 5222", 5, "leave it out"),
    ],
)
def test_component_refused(tmp_path, more, line, mend):
    """Every mistake in [component] is told with its line and the mend; without TLS only this machine is trusted."""
    kept = COMPONENT if not more.startswith("domains") else COMPONENT.rpartition("domains")[0]
    with pytest.raises(ConfigurationError) as error:
        loaded(tmp_path, f"{kept}{more}\n")
    assert mend in str(error.value)
    assert f":{line}: " in str(error.value) or "tls" in str(error.value)


@pytest.mark.parametrize("server", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine(tmp_path, server):
    """The loopback needs no TLS."""
    assert loaded(tmp_path, f'{COMPONENT}server = "{server}"').component.server == server


def test_the_secret(tmp_path, monkeypatch):
    """It is in a file, without the line's end, or in the environment; one that is not there is told with its
    setting."""
    monkeypatch.delenv(SECRET, raising=False)
    path = tmp_path / "secret"
    component = replace(loaded(tmp_path, COMPONENT).component, secret_file=str(path))
    with pytest.raises(ConfigurationError, match=r"component\.secret_file: .*cannot be read: No such file"):
        component.secret()
    path.write_text("\n")
    with pytest.raises(ConfigurationError, match="is empty"):
        component.secret()
    path.write_text("s3cr3t\n")
    assert component.secret() == "s3cr3t"
    monkeypatch.setenv(SECRET, "other")
    assert component.secret() == "other"
    with pytest.raises(ConfigurationError, match="name a file"):
        monkeypatch.delenv(SECRET) or replace(component, secret_file="").secret()
