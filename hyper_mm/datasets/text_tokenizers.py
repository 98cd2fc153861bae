"""Tokenizers of kept libraries behind one interface, and what a folder of token ids says of itself.

No tokenizer is written here: open_clip's BPE needs no file and no network, and any tokenizer file
of Hugging Face is read by their package ``tokenizers`` where it is installed.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

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

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without those that begin and end a document."""
        return self._tokenizer.encode(text)

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
        ValueError: If it has no such token.
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

        self._tokenizer = Tokenizer.from_file(str(file))
        self.vocab_size = self._tokenizer.get_vocab_size()
        self.bos_id, self.eos_id = (self._id('bos', bos) if bos else None), self._id('eos', eos)
        self.spec = dict(type='file', file=Path(file).name, bos=bos, eos=eos)

    def _id(self, name: str, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise ValueError(f'{name} must be a token of the tokenizer, got {token!r}')
        return found

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without those that begin and end a document."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; those that begin and end a document are left out."""
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=True)


class CompactTokenizer:
    """A tokenizer whose ids are renumbered, those of one corpus alone being kept.

    Args:
        base: The tokenizer.
        original_ids: Its ids that are kept; the first becomes 0.

    Raises:
        ValueError: If the ids that begin or end a document are not kept.
    """

    def __init__(self, base: OpenClipTokenizer | FileTokenizer, original_ids: Sequence[int]):
        self.base, self.original_ids = base, list(original_ids)
        self._new = {old: new for new, old in enumerate(self.original_ids)}
        missing = {i for i in (base.bos_id, base.eos_id) if i is not None} - self._new.keys()
        if missing:
            raise ValueError(f'original_ids must hold the ids of the ends, {sorted(missing)}')
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
    """Reads what a folder of token ids says of itself.

    Raises:
        FileNotFoundError: If ``tools/dataset_converters/tokenize_text.py`` has not finished there.
    """
    path = Path(data_root) / META
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} does not exist: write the folder by tools/dataset_converters/tokenize_text.py'
        )
    return json.loads(path.read_text(encoding='utf-8'))


def tokenizer_of(data_root: str | Path) -> OpenClipTokenizer | FileTokenizer | CompactTokenizer:
    """Builds the tokenizer of a folder of token ids."""
    meta = read_meta(data_root)
    spec = dict(meta['tokenizer'])
    if spec.pop('type') == 'open_clip':
        base = OpenClipTokenizer()
    else:
        base = FileTokenizer(Path(data_root) / spec.pop('file'), **spec)
    ids = meta['original_ids']
    return base if ids is None else CompactTokenizer(base, ids)
