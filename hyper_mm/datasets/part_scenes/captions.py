"""English captions of a scene in four tiers, each entailed by the next."""

from __future__ import annotations

from collections.abc import Sequence

from .instance import Instance
from .taxonomy import SCENE_GROUPS

TIERS = 4
_PLURALS = {'person': 'people', 'bus': 'buses', 'bush': 'bushes', 'bench': 'benches'}
_NUMBERS = ('no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
_MIN_SHARE = 0.001


def describe(
    scene: str, time: str, records: Sequence[Instance], pixels: int
) -> tuple[str, str, str, str]:
    """Describe a scene, from general to specific.

    Args:
        scene: One of `SCENE_CLASSES`.
        time: Phrase for the time of day, for example `'at sunset'`.
        records: The visible things; those below a thousandth of the picture are not mentioned.
        pixels: Number of pixels of the picture.

    Returns:
        Captions such as `'a green scene'`, `'a park'`, `'a park with a red house and two trees'`,
        `'a park at sunset with a red house, two trees, a lamp and a dog'`.
    """
    group = next(name for name, scenes in SCENE_GROUPS.items() if scene in scenes)
    groups: dict[str, list[Instance]] = {}
    for record in records:
        if record.area >= _MIN_SHARE * pixels:
            groups.setdefault(record.whole, []).append(record)
    ordered = sorted(groups.values(), key=lambda things: -sum(thing.area for thing in things))
    phrases = [_phrase(things) for things in ordered]

    place = f'a {scene}' if scene != 'countryside' else 'the countryside'
    when = '' if scene == 'night street' else f' {time}'
    if not phrases:
        return (
            f'a {group} scene',
            place,
            f'{place} with nobody in it',
            f'{place}{when} with nobody in it',
        )
    main, everything = _enumerate(phrases[:2]), _enumerate(phrases)
    return f'a {group} scene', place, f'{place} with {main}', f'{place}{when} with {everything}'


def _phrase(things: Sequence[Instance]) -> str:
    """Noun phrase for the things of one class: 'a red car', 'two people'."""
    whole, count = things[0].whole, len(things)
    colors = {thing.color for thing in things}
    color = colors.pop() if len(colors) == 1 else None
    noun = whole if count == 1 else _PLURALS.get(whole, f'{whole}s')
    if color and whole == 'person':
        noun = f'{noun} in {color}'
    elif color:
        noun = f'{color} {noun}'
    if count > 1:
        return f'{_NUMBERS[count] if count < len(_NUMBERS) else "many"} {noun}'
    return f'an {noun}' if noun[0] in 'aeiou' else f'a {noun}'


def _enumerate(phrases: Sequence[str]) -> str:
    return ' and '.join(filter(None, [', '.join(phrases[:-1]), phrases[-1]]))
