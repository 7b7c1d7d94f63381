"""The memory of another process, or its core dump, searched for octets. Knows nothing of what they are."""

from __future__ import annotations

import itertools
import mmap
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)")
#: Pages of the kernel's own, which the clock reads: they are not in the process's memory.
_KERNELS = ("[vvar]", "[vvar_vclock]", "[vsyscall]")
#: VmFlags of a page for keys: locked, not dumped, not copied to a child.
_FLAGS_OF_KEYS = {"lo", "dd", "dc"}

#: Octets read at once, and so many of them again with the next, for what lies across.
_CHUNK, _OVERLAP = 32 * 2**20, 256


#: What is looked for: a name, and the number of the one of several that it is.
Kind = tuple[str, int]


class Needles:
    """What to look for, of several kinds: octets, at least SHORTEST of each.

    Hundreds of them are looked for in one pass. Wherever a needle lies, one of its first eight parts of
    eight octets is a word of the memory, and whether a word is one of those a set tells.
    """

    SHORTEST = 15

    def __init__(self, kinds: Mapping[Kind, Iterable[bytes]]) -> None:
        self._words: dict[int, set[tuple[Kind, bytes]]] = {}
        for kind, needles in kinds.items():
            for needle in needles:
                assert self.SHORTEST <= len(needle) <= _OVERLAP, "too short or too long to look for"
                for start in range(8):
                    word = int.from_bytes(needle[start : start + 8], sys.byteorder)
                    self._words.setdefault(word, set()).add((kind, needle))
        self._known = frozenset(self._words)

    def that_may_be_in(self, content: bytes) -> set[tuple[Kind, bytes]]:
        """Those of which a word is there, with their kinds. `content` begins at a multiple of 8."""
        words = memoryview(content + bytes(-len(content) % 8)).cast("Q")
        return {one for word in self._known.intersection(words) for one in self._words[word]}


class Region(NamedTuple):
    """One line of /proc/PID/smaps. `for_keys`: a locked page that is kept from dumps and children."""

    start: int
    end: int
    rights: str
    name: str
    for_keys: bool


class Place(NamedTuple):
    """Where something was found: its address, and in what (the mapping's name; '' for a core dump)."""

    address: int
    mapping: str
    for_keys: bool


@dataclass
class Sight:
    """What was found, by kind; mappings that nobody can read; how much was read."""

    places: dict[Kind, list[Place]] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    octets: int = 0

    def copies(self, name: str, gap: int, *, for_keys: bool) -> int:
        """How often things of this name are there, in pages for keys or elsewhere: hits within `gap` octets
        are pieces of one copy."""
        count = 0
        for kind, places in self.places.items():
            addresses = sorted({place.address for place in places if place.for_keys == for_keys})
            if kind[0] == name and addresses:
                count += 1 + sum(b - a > gap for a, b in itertools.pairwise(addresses))
        return count


def regions(pid: int) -> list[Region]:
    """All that the process has mapped."""
    found: list[Region] = []
    head: tuple[str, ...] = ()
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        match = _LINE.match(line)
        if match is not None:
            head = match.groups()
        elif line.startswith("VmFlags:"):
            start, end, rights, name = head
            flags = set(line.split()[1:])
            found.append(Region(int(start, 16), int(end, 16), rights, name, flags >= _FLAGS_OF_KEYS))
    return found


def search_process(pid: int, needles: Needles) -> Sight:
    """Search all memory of a process, which should be stopped, for `needles`.

    :raises PermissionError: it lets nobody look.
    """
    sight = Sight()
    descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        for region in regions(pid):
            if region.rights[0] == "r" and region.name not in _KERNELS:
                _search_region(sight, descriptor, region, needles)
    finally:
        os.close(descriptor)
    return sight


def search_file(path: Path, needles: Needles) -> Sight:
    """Search a file, such as a core dump."""
    sight = Sight()
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        for start in range(0, len(content), _CHUNK):
            _search(sight, content[start : start + _CHUNK + _OVERLAP], start, Place(0, "", False), needles)
        sight.octets = len(content)
    return sight


def _search_region(sight: Sight, descriptor: int, region: Region, needles: Needles) -> None:
    for start in range(region.start, region.end, _CHUNK):
        size = min(_CHUNK + _OVERLAP, region.end - start)
        try:
            content = os.pread(descriptor, size, start)
        except OSError:
            content = b""
        sight.octets += min(len(content), _CHUNK)
        _search(sight, content, start, Place(0, region.name, region.for_keys), needles)
        if len(content) < size:
            sight.hidden.append(region.name)
            return


def _search(sight: Sight, content: bytes, start: int, what: Place, needles: Needles) -> None:
    for kind, needle in needles.that_may_be_in(content):
        for position in _positions(content, needle):
            sight.places.setdefault(kind, []).append(what._replace(address=start + position))


def _positions(content: bytes, needle: bytes) -> Iterator[int]:
    position = content.find(needle)
    while position >= 0:
        yield position
        position = content.find(needle, position + 1)
