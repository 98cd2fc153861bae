"""Tokenizers of kept libraries behind one interface, and the description of a folder of token ids.

No tokenizer is written here: open_clip's BPE needs no file and no network, and any tokenizer file
of Hugging Face is read by their package ``tokenizers`` where it is installed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .files import is_integer, read_json, relative

if TYPE_CHECKING:
    from torch import Tensor

META = 'meta.json'


class OpenClipTokenizer:
    """CLIP's byte-pair encoding: 49,408 ids; texts are lower-cased, their white space is lost.

    Attributes:
        vocab_size: Number of ids.
        bos_id: Id that begins a document, or None.
        eos_id: Id that ends a document.
        spec: What :func:`build_tokenizer` builds it from.
    """

    def __init__(self):
        if importlib.util.find_spec('open_clip') is None:
            raise ImportError(
                'the tokenizer open_clip needs open_clip, which is not installed: '
                'pip install open_clip_torch'
            )
        from open_clip.tokenizer import SimpleTokenizer

        self._tokenizer = SimpleTokenizer()
        self.vocab_size = self._tokenizer.vocab_size
        self.bos_id, self.eos_id = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        self.spec = dict(type='open_clip')
        ends = {self.bos_id: 'start_of_text>', self.eos_id: 'end_of_text>'}
        self._spelled = {
            i: [*self._tokenizer.encode('<'), *self._tokenizer.encode(rest)]
            for i, rest in ends.items()
        }

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without those that begin and end a document.

        Where the text itself holds ``<start_of_text>`` or ``<end_of_text>``, it is spelled out.
        """
        ids = self._tokenizer.encode(text)
        return [i for old in ids for i in self._spelled.get(old, (old,))]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; those that begin and end a document are left out."""
        ends = (self.bos_id, self.eos_id)
        return self._tokenizer.decode([int(i) for i in ids if int(i) not in ends]).strip()


class FileTokenizer:
    """A tokenizer file of Hugging Face (``tokenizer.json``).

    Args:
        file: The file.
        eos: Token that ends a document, such as ``'<|end_of_text|>'``.
        bos: Token that begins a document; None: there is none, and the first token of a document is
            predicted by nothing.

    Raises:
        ImportError: If the package ``tokenizers`` is not installed.
        FileNotFoundError: If there is no such file.
        ValueError: If it is no tokenizer, or has no such token.
    """

    def __init__(self, file: str | Path, eos: str, bos: str | None = None):
        if not Path(file).is_file():
            raise FileNotFoundError(f'tokenizer file {file} does not exist')
        if importlib.util.find_spec('tokenizers') is None:
            raise ImportError(
                f'the tokenizer {file} needs tokenizers, which is not installed: '
                'pip install tokenizers'
            )
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the package raises nothing narrower
            raise ValueError(f'{file} is no tokenizer file of Hugging Face: {error}') from None
        # texts that hold the name of a special token do not hold that token
        self._tokenizer.encode_special_tokens = True
        self.vocab_size = self._tokenizer.get_vocab_size()
        self.bos_id, self.eos_id = (self._id('bos', bos) if bos else None), self._id('eos', eos)
        self.spec = dict(type='file', file=Path(file).name, bos=bos, eos=eos)

    def _id(self, name: str, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise ValueError(f'{name} must be a token of the tokenizer, got {token!r}')
        return found

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without those that begin and end a document.

        Where the text itself holds the name of a special token, it is spelled out.

        Raises:
            ValueError: If that cannot be, since the tokenizer has it as an ordinary word.
        """
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        if self.eos_id in ids or (self.bos_id is not None and self.bos_id in ids):
            ends = [x for x in (self.spec['bos'], self.spec['eos']) if x and x in text]
            raise ValueError(
                f'a text must not hold {ends or "a token"}, which begins or ends a document: '
                f'{text[:80]!r}'
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; those that begin and end a document are left out."""
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=True)


class CompactTokenizer:
    """A tokenizer whose ids are renumbered, those of one corpus alone being kept.

    Args:
        base: The tokenizer.
        original_ids: Its ids that are kept; the first becomes 0.

    Raises:
        ValueError: If ids are none of the tokenizer's or occur twice, or those that begin or end a
            document are not kept.
    """

    def __init__(self, base: OpenClipTokenizer | FileTokenizer, original_ids: Sequence[int]):
        self.base, self.original_ids = base, list(original_ids)
        self._new = {old: new for new, old in enumerate(self.original_ids)}
        missing = {i for i in (base.bos_id, base.eos_id) if i is not None} - self._new.keys()
        if missing:
            raise ValueError(f'original_ids must hold the ids of the ends, {sorted(missing)}')
        wrong = [i for i in self.original_ids if not 0 <= i < base.vocab_size]
        if wrong or len(self._new) < len(self.original_ids):
            raise ValueError(
                f'original_ids must differ and be below {base.vocab_size}, got {wrong[:5]}, or '
                f'{len(self.original_ids) - len(self._new)} twice'
            )
        self.vocab_size = len(self.original_ids)
        self.bos_id = None if base.bos_id is None else self._new[base.bos_id]
        self.eos_id = self._new[base.eos_id]
        self.spec = base.spec

    def encode(self, text: str, unknown: int | None = None) -> list[int]:
        """Ids of a text.

        Args:
            text: The text.
            unknown: What stands for each part that has no id in the reduced vocabulary.

        Raises:
            ValueError: If there is such a part and ``unknown`` is None; the message names it.
        """
        ids = self.base.encode(text)
        if unknown is not None:
            return [self._new.get(i, unknown) for i in ids]
        missing = [self.base.decode([i]) for i in ids if i not in self._new]
        if missing:
            raise ValueError(
                f'the text must be of tokens of the reduced vocabulary, without {missing[:5]}: '
                f'{text[:80]!r}'
            )
        return [self._new[i] for i in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; those that begin and end a document are left out."""
        return self.base.decode([self.original_ids[int(i)] for i in ids])


class StopStrings:
    """Criterion of :meth:`.HelmForCausalLM.generate`: ends a sequence whose text holds a string.

    Args:
        strings: What ends a text.
        decode: Text of a list of ids.
        before: Ids that precede the new ones in the text, one list a sequence; None: none.

    Raises:
        ValueError: If a string is empty.
    """

    def __init__(
        self,
        strings: str | Sequence[str],
        decode: Callable[[list[int]], str],
        before: Sequence[list[int]] | None = None,
    ):
        self.strings = (strings,) if isinstance(strings, str) else tuple(strings)
        if not all(self.strings):
            raise ValueError(f'strings must not be empty, got {self.strings}')
        self.decode, self.before = decode, before

    def found(self, text: str) -> bool:
        """Tells whether a text holds one of the strings."""
        return any(string in text for string in self.strings)

    def cut(self, text: str) -> str:
        """Returns what stands before the first of the strings."""
        ends = [text.index(string) for string in self.strings if string in text]
        return text[: min(ends, default=len(text))]

    def __call__(self, ids: Tensor) -> Tensor:
        """Which of the sequences of new tokens ``(B, n)`` have ended, bool ``(B,)``."""
        import torch

        before = self.before or [[]] * len(ids)
        texts = [self.decode([*old, *new]) for old, new in zip(before, ids.tolist())]
        return torch.tensor([self.found(text) for text in texts], device=ids.device)


def build_tokenizer(
    name: str | Path = 'open_clip', eos: str | None = None, bos: str | None = None
) -> OpenClipTokenizer | FileTokenizer:
    """Builds a tokenizer.

    Args:
        name: ``'open_clip'``, or a tokenizer file of Hugging Face.
        eos: Token that ends a document, for a file.
        bos: Token that begins a document, for a file.

    Raises:
        ValueError: For a file without ``eos``, or ``'open_clip'`` with one: it has its own.
    """
    if str(name) == 'open_clip':
        if eos or bos:
            raise ValueError(f"eos and bos must be left out for 'open_clip', got {eos!r}, {bos!r}")
        return OpenClipTokenizer()
    if not eos:
        raise ValueError(f'eos must name the token that ends a document for {name}')
    return FileTokenizer(name, eos, bos)


def read_meta(data_root: str | Path) -> dict:
    """Reads the description of a folder of token ids.

    Raises:
        FileNotFoundError: If ``tools/dataset_converters/tokenize_text.py`` has not finished there.
        ValueError: If the file is damaged; the message names what is wrong.
    """
    path = Path(data_root) / META
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} does not exist: write the folder by tools/dataset_converters/tokenize_text.py'
        )
    meta = read_json(path)

    def check(condition: bool, name: str, what: str) -> None:
        if not condition:
            raise ValueError(f'{path}: {name} must be {what}, got {str(meta.get(name))[:120]}')

    check(meta.get('dtype') in ('uint16', 'uint32'), 'dtype', "'uint16' or 'uint32'")
    size = meta.get('vocab_size')
    limit = 2 ** (16 if meta['dtype'] == 'uint16' else 32)
    check(is_integer(size, 1, limit + 1), 'vocab_size', f'an integer from 1 to {limit}')
    check(is_integer(meta.get('eos_id'), 0, size), 'eos_id', f'an id below {size}')
    bos = meta.get('bos_id')
    check(bos is None or is_integer(bos, 0, size), 'bos_id', f'null or an id below {size}')
    splits = meta.get('splits')
    check(isinstance(splits, dict) and len(splits) > 0, 'splits', 'an object with a split')
    for name, split in splits.items():
        good = isinstance(split, dict) and is_integer(split.get('tokens'))
        check(good, 'splits', f'objects with the number of tokens (see {name!r})')
        if Path(relative(name, f'{path}, splits')).name != name:
            raise ValueError(f'{path}: splits must be names of files, got {name!r}')
    spec = meta.get('tokenizer')
    good = isinstance(spec, dict) and (
        spec == dict(type='open_clip')
        or {*spec} == {'type', 'file', 'bos', 'eos'}
        and spec['type'] == 'file'
        and isinstance(spec['eos'], str)
        and isinstance(spec['bos'], (str, type(None)))
    )
    check(good, 'tokenizer', "{type: 'open_clip'} or {type: 'file', file, bos, eos}")
    if spec['type'] == 'file':
        relative(spec['file'], f'{path}, tokenizer')
    ids = meta.get('original_ids')
    good = isinstance(ids, list) and len(ids) == size and all(is_integer(i) for i in ids)
    check(ids is None or good, 'original_ids', f'null or {size} ids')
    return meta


def tokenizer_of(data_root: str | Path) -> OpenClipTokenizer | FileTokenizer | CompactTokenizer:
    """Builds the tokenizer of a folder of token ids.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the files are damaged, or the tokenizer is not that of ``meta.json``.
    """
    meta = read_meta(data_root)
    spec = dict(meta['tokenizer'])
    if spec.pop('type') == 'open_clip':
        base = OpenClipTokenizer()
    else:
        base = FileTokenizer(Path(data_root) / spec.pop('file'), **spec)
    ids = meta['original_ids']
    found = base if ids is None else CompactTokenizer(base, ids)
    for name in ('vocab_size', 'bos_id', 'eos_id'):
        if getattr(found, name) != meta.get(name):
            raise ValueError(
                f'{Path(data_root) / META}: {name} is {meta.get(name)}, the tokenizer has '
                f'{getattr(found, name)}'
            )
    return found
