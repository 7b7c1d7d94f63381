"""The commands of ``archive-reader``, in the order in which help lists them: a module each, with its
arguments, its help and its doing.
"""

from __future__ import annotations

from archive_crypt.reader.commands import (
    disable,
    enable,
    export,
    keygen,
    keys,
    list,
    open,
    prefs,
    read,
    rearchive,
    rekey,
    remove,
    save,
    search,
    status,
    sync,
    watch,
)
from archive_crypt.reader.usage import Command, Group

COMMANDS: tuple[Command | Group, ...] = (
    keygen.COMMAND,
    keys.COMMAND,
    enable.COMMAND,
    disable.COMMAND,
    status.COMMAND,
    prefs.COMMAND,
    list.COMMAND,
    read.COMMAND,
    sync.COMMAND,
    search.COMMAND,
    watch.COMMAND,
    export.COMMAND,
    open.COMMAND,
    save.COMMAND,
    remove.COMMAND,
    rekey.COMMAND,
    rearchive.COMMAND,
)
