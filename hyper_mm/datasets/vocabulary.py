"""Vocabularies: the classes of an open-vocabulary model, by name."""

from __future__ import annotations

import colorsys
import copy
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from hyper_mm.checks import check_choice

FOLDER = Path(__file__).parent / 'vocabularies'
SYNONYMS = ('first', 'mean', 'max')


@lru_cache(maxsize=1)
def builtin_names() -> tuple[str, ...]:
    """Names of the vocabularies that the package holds."""
    return tuple(sorted(path.stem for path in FOLDER.glob('*.json') if path.stem != 'templates'))


@lru_cache(maxsize=1)
def template_sets() -> dict[str, list[str]]:
    """Prompt templates: ``'cat-seg'`` and ``'plain'`` (one each), ``'imagenet'`` (CLIP's 80)."""
    return json.loads((FOLDER / 'templates.json').read_text(encoding='utf-8'))


class Vocabulary:
    """Class names, what they are also called, and the prompts that are made of them.

    Args:
        names: Classes, each with its synonyms behind it, separated by commas
            (``'sofa, couch, lounge'``); or the name or path of a vocabulary, see :meth:`load`.
        templates: Name of a set of templates (see :func:`template_sets`), or templates with one
            ``{}`` each.
        synonyms: ``'first'`` (the first name stands for the class, as CAT-Seg has it), ``'mean'``
            (the features of all names are averaged) or ``'max'`` (the best of all names counts, as
            FC-CLIP has it: for the open-vocabulary detectors, which score names).
        without: Display names of classes to leave out.
        whole: Whether names are taken as they are: commas separate nothing, and a name may be there
            twice, as ImageNet has two ``missile`` (see :meth:`of_dataset`).

    Underscores read as spaces in prompts. Vocabularies of equal prompts are equal, and hashable.

    Raises:
        TypeError: If a name or a template is not a string.
        ValueError: If there is no class; for an empty name, a class that is there twice, a template
            without ``{}``, or an unknown set or policy.

    Attributes:
        names: Display name of each class: its first synonym, or the whole entry where two classes
            begin with the same.
        entries: The classes as given.
        templates: The templates.

    Example:
        >>> Vocabulary(['cat, kitten', 'sky']).names
        ('cat', 'sky')
    """

    def __init__(
        self,
        names: str | Sequence[str],
        templates: str | Sequence[str] = 'cat-seg',
        synonyms: str = 'first',
        without: Sequence[str] = (),
        whole: bool = False,
    ):
        if isinstance(names, (str, os.PathLike)):
            names = _read(str(names))
        check_choice(SYNONYMS, synonyms=synonyms)
        self.whole = bool(whole)
        self.entries = tuple(_check_name(name, self.whole) for name in names)
        if not self.entries:
            raise ValueError('a vocabulary needs at least one class, got none')
        twice = [name for name, count in Counter(self.entries).items() if count > 1]
        if twice and not self.whole:
            raise ValueError(f'classes must be there once, got {twice} more than once')
        self.templates = _check_templates(templates)
        self.synonyms = synonyms
        first = Counter(entry[0] for entry in self.entries)
        shown = [', '.join(e) if first[e[0]] > 1 else e[0] for e in self.entries]
        unknown = sorted(set(without) - set(shown))
        if unknown or len(set(without)) == len(shown):
            raise ValueError(f'without must be some of the {len(shown)} classes, got {without}')
        kept = [i for i, name in enumerate(shown) if name not in without]
        self.entries = tuple(self.entries[i] for i in kept)
        self.names = tuple(shown[i] for i in kept)

    @classmethod
    def load(cls, source: str | Sequence[str] | Mapping | Vocabulary) -> Vocabulary:
        """Makes a vocabulary of a name, a path, a list of names, or arguments.

        Args:
            source: Name of a built-in vocabulary (see :func:`builtin_names`), path of a file (see
                :meth:`from_file`), list of names, arguments of the class, or a vocabulary.

        Returns:
            The vocabulary.

        Raises:
            TypeError: For anything else.
            ValueError: If there is no such vocabulary.
        """
        if isinstance(source, Vocabulary):
            return source
        if isinstance(source, Mapping):
            return cls(**source)
        if isinstance(source, (str, os.PathLike, Sequence)):
            return cls(source)
        raise TypeError(f'a vocabulary is a name, a path, a list or a dict, got {source!r}')

    @classmethod
    def from_file(cls, path: str | os.PathLike, **options) -> Vocabulary:
        """Reads a file: ``.json`` with a list of names, or text with one class a line.

        Args:
            path: The file; empty lines of a text are skipped.
            **options: ``templates``, ``synonyms``.

        Returns:
            The vocabulary.

        Raises:
            ValueError: If there is no such file.
        """
        return cls(os.fspath(path), **options)

    @classmethod
    def of_dataset(
        cls, classes: Sequence[str], templates: str | Sequence[str] = 'cat-seg'
    ) -> Vocabulary:
        """The classes of a data set, one name each: see ``whole``.

        Args:
            classes: Names, such as ``dataset.metainfo['classes']``.
            templates: See the class.

        Returns:
            The vocabulary.

        Raises:
            TypeError: If ``classes`` is one string, or holds something else than strings.
            ValueError: If there is no class, or a name is empty.
        """
        if isinstance(classes, (str, os.PathLike)):
            raise TypeError(f'classes must be a list of names, got {classes!r}')
        return cls(classes, templates, whole=True)

    def with_templates(self, templates: str | Sequence[str]) -> Vocabulary:
        """The same classes in other prompts.

        Args:
            templates: See the class.

        Returns:
            A new vocabulary.

        Raises:
            TypeError: If a template is not a string.
            ValueError: For an unknown set, or a template without ``{}``.
        """
        other = copy.copy(self)
        other.templates = _check_templates(templates)
        return other

    def reordered(self, names: Sequence[str]) -> Vocabulary | None:
        """The same classes in the order of other names of theirs.

        Args:
            names: A name of each class: its display name, the whole entry or one of its synonyms;
                case, white space and ``_`` do not count.

        Returns:
            The vocabulary whose class i is called ``names[i]``; None if they are not the same
            classes.
        """
        rows = self.match(names)
        if None in rows or sorted(rows) != list(range(len(self))):
            return None
        other = copy.copy(self)
        other.entries = tuple(self.entries[row] for row in rows)
        other.names = tuple(self.names[row] for row in rows)
        return other

    def match(self, names: Sequence[str]) -> list[int | None]:
        """The class that each name means.

        Args:
            names: See :meth:`reordered`.

        Returns:
            Its index, or None: display names come before synonyms; of classes of one name, those at
            the name's own place come first.
        """
        known: dict[str, list[int]] = {}
        whole = [', '.join(entry) for entry in self.entries]
        for keys in (self.names, whole):
            for row, key in enumerate(keys):
                known.setdefault(_plain(key), []).append(row)
        synonyms: dict[str, list[int]] = {}
        for row, entry in enumerate(self.entries):
            for key in entry:
                synonyms.setdefault(_plain(key), []).append(row)
        found = []
        for place, name in enumerate(names):
            keys = (_plain(name), _plain(name.split(',')[0]))
            tables = [table[key] for key in keys for table in (known, synonyms) if key in table]
            rows = tables[0] if tables else [None]
            found.append(place if place in rows else rows[0])
        return found

    def shared_with(self, other: Vocabulary) -> list[bool]:
        """Whether each class has a name that a class of another vocabulary has, too.

        Args:
            other: Such as the classes of training: those that share a name with it are not novel.

        Returns:
            A flag for each class; case, white space and ``_`` do not count.
        """
        known = {_plain(name) for entry in other.entries for name in entry}
        return [any(_plain(name) in known for name in entry) for entry in self.entries]

    def differences(self, names: Sequence[str]) -> list[str]:
        """Where other names are not those of the classes, place by place.

        Args:
            names: Names in the order of the labels; see :meth:`match`.

        Returns:
            A line for each place that differs: ``"0: 'sky' of the vocabulary, 'car'"``.
        """
        rows, lines = self.match(names), []
        for place in range(max(len(self), len(names))):
            if place < len(rows) and rows[place] == place:
                continue
            own = repr(self.names[place]) if place < len(self) else 'nothing'
            other = repr(names[place]) if place < len(names) else 'nothing'
            lines.append(f'{place}: {own} of the vocabulary, {other}')
        return lines

    def ambiguous(self) -> list[tuple[str, ...]]:
        """Groups of classes that cannot be told apart, for their prompts are the same.

        Returns:
            The entries of each group.
        """
        groups: dict[tuple, list[str]] = {}
        for prompts, entry in zip(self.prompts(), self.entries):
            key = tuple(sorted(map(tuple, prompts)))
            groups.setdefault(key, []).append(', '.join(entry))
        return [tuple(group) for group in groups.values() if len(group) > 1]

    def options(self) -> dict:
        """Arguments of the class that make this vocabulary, of plain types (for checkpoints)."""
        return dict(
            names=[', '.join(entry) for entry in self.entries],
            templates=list(self.templates),
            synonyms=self.synonyms,
            whole=self.whole,
        )

    def _key(self) -> tuple:
        return self.entries, self.templates, self.synonyms

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Vocabulary) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f'Vocabulary({len(self)} classes, {len(self.templates)} templates)'

    def prompts(self) -> list[list[list[str]]]:
        """Prompts: for each class, for each of its names that is used, one a template."""
        used = (e[:1] if self.synonyms == 'first' else e for e in self.entries)
        return [
            [[t.format(name.replace('_', ' ')) for t in self.templates] for name in names]
            for names in used
        ]

    @property
    def palette(self) -> list[list[int]]:
        """A color for each class: hues by the golden ratio, so that neighbors differ."""
        colors = []
        for i in range(len(self)):
            saturation, value = (0.85, 0.55, 0.7)[i % 3], (0.95, 0.8, 0.6)[i // 3 % 3]
            rgb = colorsys.hsv_to_rgb(i * 0.61803398875 % 1, saturation, value)
            colors.append([round(255 * part) for part in rgb])
        return colors


def _plain(name: str) -> str:
    """A name for comparisons."""
    return ' '.join(name.replace('_', ' ').lower().split())


def _check_name(entry: str, whole: bool) -> tuple[str, ...]:
    """Synonyms of an entry."""
    if not isinstance(entry, str):
        raise TypeError(f'class names must be strings, got {entry!r}')
    names = tuple(name.strip() for name in ([entry] if whole else entry.split(',')))
    if not all(names):
        raise ValueError(f'class names must not be empty, got {entry!r}')
    return names


def _check_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(templates, str):
        if templates not in template_sets():
            raise ValueError(
                f'templates must be a list or one of {sorted(template_sets())}, got {templates!r}'
            )
        templates = template_sets()[templates]
    for template in templates:
        if not isinstance(template, str):
            raise TypeError(f'templates must be strings, got {template!r}')
        if template.count('{}') != 1 or template.count('{') + template.count('}') != 2:
            raise ValueError(f'a template must have one {{}} for the name, got {template!r}')
    if not templates:
        raise ValueError('templates must not be empty')
    return tuple(templates)


def _read(source: str) -> list[str]:
    """Names of a built-in vocabulary or a file."""
    if source in builtin_names():
        source = str(FOLDER / f'{source}.json')
    path = Path(source).expanduser()
    if not path.is_file():
        raise ValueError(
            f'a vocabulary must be one of {", ".join(builtin_names())}, or a file with one class a '
            f'line; got {source!r}'
        )
    text = path.read_text(encoding='utf-8-sig')  # some editors mark the start
    if path.suffix == '.json':
        names = json.loads(text)
        if not isinstance(names, list):
            raise ValueError(f'{source} must hold a list of names, got {type(names).__name__}')
        return names
    return [line for line in text.splitlines() if line.strip()]
