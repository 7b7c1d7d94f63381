"""The commands of ``archive-reader``, in the order in which help lists them: a module each, with its
arguments, its help and its doing.
"""

from __future__ import annotations

from archive_crypt.reader.commands import enable, export, keygen, list, open, read
from archive_crypt.reader.usage import Command

COMMANDS: tuple[Command, ...] = (
    keygen.COMMAND,
    enable.COMMAND,
    list.COMMAND,
    read.COMMAND,
    export.COMMAND,
    open.COMMAND,
)
