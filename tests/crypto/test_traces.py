"""The octets to look for are those that AES, RSA and base64 really make: by the standards' own examples."""

import base64
import os

import pytest

from archive_crypt.crypto import envelope, opening, traces

KEY = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")


def test_round_keys_are_those_of_the_standard():
    """FIPS 197, A.1 and A.3."""
    aes128 = traces.round_keys(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"))
    aes256 = traces.round_keys(KEY)
    assert (len(aes128), aes128[10].hex()) == (11, "d014f9a8c9ee2589e13f0cc8b6630ca6")
    assert (len(aes256), aes256[14].hex()) == (15, "fe4890d1e6188d0b046df344706c631e")


def test_round_keys_of_decryption_are_those_of_the_standard():
    """FIPS 197, C.1: the equivalent inverse cipher's key schedule."""
    expanded = traces.of_expanded(bytes(range(16)))
    assert bytes.fromhex("13aa29be9c8faff6f770f58000f7bf03") in expanded  # round 1
    assert bytes.fromhex("8c56dff0825dd3f9805ad3fc8659d7fd") in expanded  # round 9


@pytest.mark.parametrize("size", [16, 32])
def test_a_key_is_found_in_each_form(size):
    """Of the key, its reverse, its text and its schedule each part of sixteen octets is looked for."""
    key = os.urandom(size)
    for form, needles in [
        (key, traces.of_octets(key)),
        (key[::-1], traces.of_octets(key)),
        (key.hex().encode(), traces.of_text(key)),
        (key.hex().upper().encode(), traces.of_text(key)),
        (b"".join(traces.round_keys(key)[size // 16 :]), traces.of_expanded(key)),
    ]:
        for start in range(0, len(form) - 15, 16):
            assert any(needle in form[start : start + 16] for needle in needles)


@pytest.mark.parametrize("start", [0, 1, 2])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_base64_is_found_wherever_the_key_begins(start, after):
    """That part of base64 is looked for that does not depend on what stands around the key."""
    form = base64.b64encode(os.urandom(start) + KEY + os.urandom(after))
    needle = traces.base64_of(KEY, start)
    assert needle in form
    assert len(needle) >= 4 * len(KEY) // 3 - 2
    assert any(piece in form for piece in traces.of_text(KEY))


def test_the_encoded_message_is_the_one_that_rsa_encrypted(private_key, public_key):
    """What is looked for, encrypted by RSA alone, is the wrapped key."""
    key = memoryview(bytearray(KEY))
    wrapped = envelope.wrap(envelope.RSA_OAEP, key, public_key)
    assert opening.unwrap(private_key, envelope.RSA_OAEP, wrapped) == KEY
    numbers = private_key.rsa.private_numbers()
    message = pow(int.from_bytes(wrapped, "big"), numbers.d, numbers.public_numbers.n).to_bytes(256, "big")
    needles = traces.of_wrapping(private_key, wrapped)
    assert message[0] == 0
    for whole in (message, message[::-1]):
        assert sum(needle in whole for needle in needles) == 8
