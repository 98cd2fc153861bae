"""Tokenizers of CLIP models, one for each architecture; texts that are too long are errors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

CONTEXT_LENGTH = 77


class TextTokenizer:
    """The tokenizer that an architecture of open_clip was trained with.

    OpenAI's byte-pair encoding for most; ``ViT-*-worldwide`` (MetaCLIP 2), ``*-CLIPA``, SigLIP and
    towers of Hugging Face have their own, which open_clip takes from the Hugging Face hub, or from
    its cache. It is read when it is first needed, and shared by all models of an architecture; the
    object itself is small, and is copied and pickled with its model.

    Args:
        model: Name of an architecture, or its model config with ``text_cfg``; see
            :func:`hyper_mm.models.utils.open_clip.build_open_clip`. None: OpenAI's encoding.
        vocab_size: Number of ids that the text tower knows; None: not checked.
        context_length: Most tokens that the text tower takes.
        padded: Whether rows have ``context_length`` tokens, as most towers want them, or as many as
            the longest text.
    """

    def __init__(
        self,
        model: str | Mapping | None = None,
        vocab_size: int | None = None,
        context_length: int = CONTEXT_LENGTH,
        padded: bool = True,
    ) -> None:
        if isinstance(model, Mapping):
            text = model['text_cfg']
            keys = ('hf_tokenizer_name', 'hf_model_name', 'tokenizer_mode', 'tokenizer_kwargs')
            chosen = {key: text[key] for key in keys if text.get(key)}
            model = json.dumps(chosen, sort_keys=True) if chosen else None
        self.source = model
        self.vocab_size = vocab_size
        self.context_length = context_length
        self.padded = padded

    @property
    def tokenizer(self) -> SimpleTokenizer | HFTokenizer:
        """The tokenizer of open_clip.

        Raises:
            ImportError: If it needs the package ``transformers``, which is not installed.
            FileNotFoundError: If its files are neither in the cache nor can be loaded.
        """
        return _load(self.source)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text, start and end included."""
        tokenizer = self.tokenizer
        if hasattr(tokenizer, 'encode'):
            return [len(tokenizer.encode(text)) + 2 for text in texts]
        if not texts:
            return []
        clean = getattr(tokenizer, 'clean_fn', str)
        clips = getattr(tokenizer, 'tokenizer_mode', '') == 'clips'  # start, end, class token
        ids = tokenizer.tokenizer([clean(x) for x in texts], add_special_tokens=not clips).input_ids
        return [len(x) + 3 * clips for x in ids]

    def __call__(
        self,
        texts: Sequence[str],
        context_length: int | None = None,
        allow_empty: bool = False,
        truncate: bool = False,
    ) -> torch.LongTensor:
        """Tokens of texts.

        Args:
            texts: The texts, N of them.
            context_length: Length of the rows; the rest of each is padding. None: that of the
                tower, or of the longest text where the tower takes any.
            allow_empty: Whether a text may be empty (start and end only).
            truncate: Whether to cut what is too long, as open_clip does without a word.

        Returns:
            Tokens ``(N, L)``, L the length of the rows.

        Raises:
            TypeError: If ``texts`` is one string, or holds something else than strings.
            ValueError: If a text is empty, has more tokens than fit, or one that the text tower
                does not know.
            FileNotFoundError: See :attr:`tokenizer`.
        """
        if isinstance(texts, str):
            raise TypeError(f'texts must be a sequence of texts, got the single text {texts!r}')
        texts = list(texts)
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f'texts must be strings, got {text!r}')
            if not text.strip() and not allow_empty:
                raise ValueError(f'texts must not be empty, got {text!r}')
        longest = self.context_length if context_length is None else context_length
        if not truncate or (context_length is None and not self.padded):
            lengths = self.lengths(texts)
            for text, length in zip(texts, lengths):
                if length > longest and not truncate:
                    raise ValueError(
                        f'a text must have at most {longest} tokens, start and end included, got '
                        f'{length}: {text!r}'
                    )
            if context_length is None and not self.padded:
                longest = min(longest, max(lengths, default=0))
        if not texts:
            return torch.zeros(0, longest, dtype=torch.long)
        tokens = self.tokenizer(texts, context_length=longest)
        if self.vocab_size is not None and tokens.max() >= self.vocab_size:
            raise ValueError(
                f'the tokenizer {self} has the id {int(tokens.max())}, the text tower '
                f'{self.vocab_size} ids: it is not the tokenizer of this model'
            )
        return tokens

    def __str__(self) -> str:
        return "of OpenAI's CLIP" if self.source is None else f'of {self.source}'


@lru_cache(maxsize=8)
def _load(source: str | None) -> SimpleTokenizer | HFTokenizer:
    """The tokenizer of a name, or of the options of a model config as text."""
    if source is None:
        return SimpleTokenizer()
    try:
        if not source.startswith('{'):
            return open_clip.get_tokenizer(source)
        options = json.loads(source)
        kwargs = options.get('tokenizer_kwargs', {})
        name = options.get('hf_tokenizer_name') or options.get('hf_model_name')
        if name is None:
            return SimpleTokenizer(**kwargs)
        return HFTokenizer(name, tokenizer_mode=options.get('tokenizer_mode'), **kwargs)
    except ImportError as error:
        raise ImportError(
            f'the tokenizer of {source} is one of Hugging Face: pip install transformers '
            f'sentencepiece ({error})'
        ) from error
    except (OSError, ValueError) as error:
        reason = str(error).strip().split('\n')[0]
        raise FileNotFoundError(
            f'the tokenizer of {source} has files of its own, which are neither here nor could be '
            'loaded. Call open_clip.get_tokenizer once with a network and copy the cache of '
            'Hugging Face (HF_HOME), or name a folder with the files: '
            f"clip.model.text_cfg.hf_tokenizer_name='path/of/folder'. {reason}"
        ) from error
