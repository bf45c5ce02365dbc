"""Which regular expressions can hang: an unbounded repeat inside an unbounded repeat, with nothing in between that only it can match.

For: the law against nested quantifiers. Never: running a pattern; its parse tree is read.

A loop in a loop is harmless where each turn of the outer one must pass a character at which no inner loop can stand (`(?:x+,)*`): then
there is one way to cut a text into turns. Possessive repeats and atomic groups never go back, so they are harmless too.
"""

import re
from collections.abc import Iterable, Iterator
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]

_MANY = 1000
"""A bounded repeat of more turns is as bad as an unbounded one."""
_CHARS = [chr(point) for point in (*range(0x180), 0x3041, 0x4E00, 0x212A, 0x2028)]
_LOOPS = (sre.MAX_REPEAT, sre.MIN_REPEAT)
_SINGLE = (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN)


def hangs(pattern: str | bytes, flags: int = 0) -> bool:
    """Tell whether `pattern` has a loop in a loop that can cut one text in many ways."""
    tree = _parser.parse(pattern, flags)
    return any(_ambiguous(body, tree.state.flags | flags) for body in _loop_bodies(tree))


def _loop_bodies(tree: Iterable[tuple]) -> Iterator[list[tuple]]:
    """Give the bodies of all loops, at any depth."""
    for op, argument in tree:
        if op in _LOOPS and argument[1] > _MANY:
            yield list(argument[2])
        for inner in _inside(op, argument):
            yield from _loop_bodies(inner)


def _inside(op: object, argument: object) -> list[list[tuple]]:
    """Give the trees within one node; nothing within what never goes back."""
    match op:
        case sre.MAX_REPEAT | sre.MIN_REPEAT:
            return [list(argument[2])]
        case sre.SUBPATTERN:
            return [list(argument[3])]
        case sre.BRANCH:
            return [list(branch) for branch in argument[1]]
        case sre.ASSERT | sre.ASSERT_NOT:
            return [list(argument[1])]
        case sre.GROUPREF_EXISTS:
            return [list(branch) for branch in argument[1:] if branch]
        case _:
            return []


def _ambiguous(body: list[tuple], flags: int) -> bool:
    for alternative in _alternatives(body):
        inner = [_charset(single, flags) for loop in _loop_bodies(alternative) for single in _singles(loop)]
        if not inner:
            continue
        looped = set().union(*inner)
        if not any(op in _SINGLE and not _charset((op, argument), flags) & looped for op, argument in _spine(alternative)):
            return True
    return False


def _alternatives(body: list[tuple]) -> list[list[tuple]]:
    """Take a loop over a group of alternatives apart."""
    if len(body) == 1 and body[0][0] is sre.SUBPATTERN:
        return _alternatives(list(body[0][1][3]))
    if len(body) == 1 and body[0][0] is sre.BRANCH:
        return [one for branch in body[0][1][1] for one in _alternatives(list(branch))]
    return [body]


def _spine(tree: list[tuple]) -> Iterator[tuple]:
    """Give the nodes that every turn must pass."""
    for op, argument in tree:
        if op is sre.SUBPATTERN:
            yield from _spine(list(argument[3]))
        elif op in (*_LOOPS, sre.POSSESSIVE_REPEAT) and argument[0] > 0:
            if argument[1] <= _MANY:
                yield from _spine(list(argument[2]))
        else:
            yield op, argument


def _singles(tree: Iterable[tuple]) -> Iterator[tuple]:
    for op, argument in tree:
        if op in _SINGLE:
            yield op, argument
        for inner in _inside(op, argument):
            yield from _singles(inner)


def _charset(single: tuple, flags: int) -> set[str]:
    op, argument = single
    if op is sre.ANY:
        return {char for char in _CHARS if flags & re.DOTALL or char != "\n"}
    # Case is folded always, as inline flags may: a separator must be one in either case.
    return {char for char in _CHARS if _matches(op, argument, ord(char)) or _matches(op, argument, ord(char.swapcase()[0]))}


def _matches(op: object, argument: object, point: int) -> bool:
    match op:
        case sre.LITERAL:
            return point == argument
        case sre.NOT_LITERAL:
            return point != argument
        case sre.RANGE:
            return argument[0] <= point <= argument[1]
        case sre.CATEGORY:
            return re.fullmatch(_CATEGORIES[argument], chr(point)) is not None
        case _:
            assert op is sre.IN, op
            negated = argument[0][0] is sre.NEGATE
            return negated != any(_matches(*one, point) for one in argument[negated:])


_CATEGORIES = {
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}
