"""Damage that looks like JSON: bytes changed, cut, copied, and pieces of syntax put in."""

import random

_PIECES = (
    *(bytes([sign]) for sign in b'"\\[{}]:,0-e. \n'),
    *(b"\\u", b"d800", b"E9", b"null", b"true", b"NaN", b"\xc2", b"\xf0\x9f\x98\x80", b"\\u0000", b"\\ud83d\\ude00", b"9" * 30),
    *(b'"event_type":"view",', b'"visitor_id":"v",', b'"event_time":1700000000000,', b'"event_id":"e",'),
    *(b'"price":1e400,', b'"":{},', b'"title":null,'),
)


def mutated(value: bytes, dice: random.Random) -> bytes:
    """The value, damaged in one to four places."""
    changed = bytearray(value)
    for _ in range(dice.randint(1, 4)):
        if not changed:
            break
        at = dice.randrange(len(changed))
        match dice.randrange(4):
            case 0:
                changed[at] = dice.randrange(256)
            case 1:
                del changed[at : at + dice.randint(1, 8)]
            case 2:
                changed[at:at] = dice.choice(_PIECES)
            case _:
                start = dice.randrange(len(changed))
                changed[at:at] = changed[start : start + dice.randint(1, 30)]
    return bytes(changed)
