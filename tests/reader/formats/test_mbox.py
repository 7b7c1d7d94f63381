"""mbox files: what mail programs find in them, and what is read back; mails of other origin."""

import mailbox
from dataclasses import replace
from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive_crypt.core import times
from archive_crypt.model import SECOND
from archive_crypt.reader.checking import Finding
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.formats import mail, mbox
from tests.reader.bait import bait
from tests.reader.formats.kit import (
    JULIET,
    ROMEO,
    START,
    TEXTS,
    chapter,
    entry,
    law,
    transcripts,
    unread,
    written,
)
from tests.reader.kit import found, said


def mails(path):
    """The mails that Python's own library finds."""
    box = mailbox.mbox(path, create=False)
    return [message_from_bytes(box.get_bytes(key), policy=policy.default) for key in box.iterkeys()]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A function that makes an mbox file of a text; its path."""

    def make(text):
        path = tmp_path_factory.mktemp("mbox") / "mail"
        path.write_bytes(text.encode())
        return path

    return make


def test_what_a_mail_tells(file):
    """From and To are the two of them, Date is when it was said; a collection is one thread of mails."""
    text = written(mbox.Writer, [chapter(entry("Ay me"), entry("She speaks!", "to", second=1))], ROMEO)
    assert text.startswith(f"From {JULIET} Sat Nov 21 10:00:00 2026\n")
    assert text.isascii()
    first, second = mails(file(text))
    assert (first["From"], first["To"]) == (f"juliet <{JULIET}>", f"romeo <{ROMEO}>")
    assert (second["From"], second["To"]) == (f"romeo <{ROMEO}>", f"juliet <{JULIET}>")
    assert first["Date"] == "Sat, 21 Nov 2026 10:00:00 +0000"
    assert first["Subject"] == f"Conversation with {JULIET}"
    assert first["References"] == second["References"]
    assert len({first["Message-ID"], second["Message-ID"], first["References"]}) == 3
    assert first.get_content() == "Ay me\n"


def test_the_same_ids_again():
    """Written again, a conversation has the same message ids."""
    chapters = [chapter(entry("Ay me"))]
    assert written(mbox.Writer, chapters, ROMEO) == written(mbox.Writer, chapters, ROMEO)


@law
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_texts_come_back(file, texts):
    """Whatever is said, each message is one mail, and its text comes back, line ends as line feeds."""
    text = written(mbox.Writer, [chapter(*map(entry, texts))], ROMEO)
    (read,) = mail.read(file(text), ROMEO)
    assert said(read.entries) == [one.replace("\r\n", "\n").replace("\r", "\n") for one in texts]


@pytest.mark.parametrize("before", ["", "\u00e9", "\u2028", "=", " ", "\r", "\n"])
@pytest.mark.parametrize("after", ["x", "\u00e9"])
def test_no_line_begins_a_mail(file, before, after):
    """Wherever a text has "From ", and however its lines are cut, it is no mail of its own."""
    forged = f"{before}From {JULIET} Sat Nov 21 10:00:00 2026\nSubject: poison\n\n{after * 80}"
    texts = ["x" * length + forged for length in range(160)]
    path = file(written(mbox.Writer, [chapter(*map(entry, texts))], ROMEO))
    assert len(mails(path)) == len(texts)
    (read,) = mail.read(path, ROMEO)
    assert said(read.entries) == [text.replace("\r", "\n") for text in texts]


@law
@given(st.lists(transcripts(), max_size=3, min_size=1))
def test_anything_can_be_written(file, chapters):
    """Whatever there is in an archive, it is as many mails as it has messages and remarks."""
    text = written(mbox.Writer, chapters, ROMEO)
    remarks = sum(bool(one.missing) for chapter in chapters for one in chapter.entries)
    remarks += sum(bool(chapter.missing) + chapter.withheld for chapter in chapters)
    assert text.isascii()
    path = file(text)
    assert len(mails(path)) == remarks + sum(len(chapter.entries) for chapter in chapters)
    if text:
        list(mail.read(path, ROMEO))


def test_what_is_suspicious_is_told(file):
    """A suspicious message says so in its subject; what could not be read, or is missing, is a mail."""
    told = chapter(
        entry("x", findings=[Finding.OUT_OF_PLACE]), unread(Finding.NO_KEY), entry("y", missing=2), missing=1
    )
    path = file(written(mbox.Writer, [told, chapter(withheld=True, with_=JULIET)], ROMEO))
    found_mails = mails(path)
    assert found_mails[0]["Subject"].strip().startswith("[! repeated, or moved from its place] Conversation")
    assert [one.get_content().strip() for one in found_mails[1:]] == [
        "This message could not be read: none of your private keys opens this.",
        "2 messages are missing here.",
        "y",
        "A message is missing here.",
        "This collection was listed, but the server did not give it, or not to its end.",
    ]
    read, gone = mail.read(path, ROMEO)
    assert found(read.entries) == [["out-of-place"], ["no-key"], []]
    assert [one.missing for one in read.entries] == [0, 0, 2]
    assert (read.missing, gone.withheld) == (1, True)


def test_several_languages(file):
    """A message in two languages is one mail with both, each under its language."""
    both = chapter(entry("Art thou?"))
    item = both.entries[0].item
    bodies = (("en", "Art thou?"), ("it", "Sei tu?"))
    both = replace(both, entries=(replace(both.entries[0], item=replace(item, bodies=bodies)),))
    path = file(written(mbox.Writer, [both], ROMEO))
    assert mails(path)[0].get_content_type() == "multipart/alternative"
    (read,) = mail.read(path, ROMEO)
    assert read.entries[0].item.bodies == bodies


def test_no_header_can_be_put_in(file):
    """Names and subjects cannot add headers."""
    hostile = chapter(entry("x", name="a\nBcc: b@c"), subject="s\r\nBcc: b@c")
    (one,) = mails(file(written(mbox.Writer, [hostile], ROMEO)))
    assert one["Bcc"] is None


# Mails of others

LETTERS = """\
From juliet@capulet.lit Thu Jul 21 02:56:15 1469
From: Juliet <juliet@capulet.lit>
To: romeo@montague.lit
Date: Fri, 21 Jul 1595 02:56:15 +0000
Message-ID: <1@capulet.lit>
Subject: Tonight
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Wherefore art thou?

From romeo@montague.lit Thu Jul 21 02:57:15 1469
From: romeo@montague.lit
To: Juliet <juliet@capulet.lit>
Date: Fri, 21 Jul 1595 04:57:15 +0200
Message-ID: <2@montague.lit>
In-Reply-To: <1@capulet.lit>
Content-Type: text/html

<html><style>p {}</style><script>x()</script><p>Here &amp; <b>now</b></p></html>

From tybalt@capulet.lit Thu Jul 21 02:58:15 1469
From: "Tybalt" <o'tybalt@capulet.lit>
To: romeo@montague.lit
Content-Type: multipart/mixed; boundary=b

--b

Boy
--b
Content-Type: image/png
Content-Disposition: attachment; filename=glove.png

x
--b--

"""


def test_a_page_that_names_a_file(file, tmp_path):
    """No file is opened that a mail in HTML names."""
    page = "Content-Type: text/html\n\n<!DOCTYPE html SYSTEM 'file://{0}'><img src='{0}'><p>Here</p>\n\n"
    with bait(tmp_path) as path:
        text = LETTERS.partition("Content-Type")[0] + page.format(path)
        read = [said(one.entries) for one in mail.read(file(text), ROMEO)]
    assert "Here" in str(read)


@pytest.mark.clause("0136-manual-intro-03")
def test_mails_of_others(file):
    """Each thread is a collection with its contact, in the order of its dates; what the owner wrote is his."""
    first, second = mail.read(file(LETTERS), ROMEO)
    assert (first.collection.with_, first.collection.thread) == (JULIET, "<1@capulet.lit>")
    assert first.collection.start == times.parse("1595-07-21T02:56:15Z")
    assert [one.item.kind for one in first.entries] == ["from", "to"]
    assert said(first.entries) == ["Wherefore art thou?", "Here & now"]
    assert first.entries[0].item.rest == ('<subject xmlns="jabber:client">Tonight</subject>',)
    assert first.entries[1].at == first.collection.start + 60 * SECOND
    assert second.collection.with_ == "o\\27tybalt@capulet.lit"
    assert said(second.entries) == ["Boy\n[attachment left out: glove.png]"]


def test_starts_differ(file):
    """Two threads of one moment with one contact become two collections."""
    one = f"From x Thu\nFrom: {JULIET}\nDate: Sat, 21 Nov 2026 10:00:00 +0000\n\nx\n\n"
    starts = {read.collection.start for read in mail.read(file(one * 3), ROMEO)}
    assert starts == {START, START + 1000, START + 2000}


def test_mails_beyond_reading(file):
    """Mails that lack everything, or have what no mail can have, are still there."""
    odd = (
        "From x\n\nno header\n\n"
        "From x\nFrom: @@\nDate: soon\nContent-Type: text/plain; charset=none\n\nodd\n\n"
        "From x\nFrom: =?utf-8?q?=ff?=\nContent-Type: multipart/mixed\n\n\n"
        "From x\nX-Archive-With: a@b\nX-Archive-Start: never\nFrom: a@b\n\nforged\n"
    )
    read = [one for chapter in mail.read(file(odd), ROMEO) for one in chapter.entries]
    assert len(read) == 4
    assert {"no header", "odd", "forged"} <= {text.strip() for text in said(read)}


def test_no_mails(file, tmp_path):
    """A file without mails, and one that is not there, are refused."""
    with pytest.raises(Problem, match="holds no mail"):
        list(mail.read(file("x\n"), ROMEO))
    with pytest.raises(Problem, match="cannot be read as an mbox"):
        list(mail.read(tmp_path / "none", ROMEO))
