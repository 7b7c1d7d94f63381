"""One target, in libFuzzer's hands: `python -m tests.fuzz.child TARGET [what libFuzzer takes]`."""

import logging
import sys

import atheris

with atheris.instrument_imports(include=["archive_crypt"]):
    from tests.fuzz import mutator, targets

#: Those whose inputs are no XML.
_OCTETS = ("text", "certificate")


def main():
    logging.disable()
    name = sys.argv.pop(1)
    more = {}
    if name not in _OCTETS:
        more["custom_mutator"] = lambda data, most, seed: mutator.mutated(data, most, seed, atheris.Mutate)
    atheris.Setup(sys.argv, targets.TARGETS[name], **more)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
