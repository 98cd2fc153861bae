r"""Continues texts by a trained language model, or reads prompts line by line.

    python tools/generate.py configs/helm/helm-d_mini_hierarcaps.py \
        work_dirs/helm-d_mini_hierarcaps/iter_400.pth 'animal => dog =>' --max-new-tokens 20
    python tools/generate.py CONFIG CHECKPOINT --temperature 0.8 --top-p 0.95   # prompts from you

The text appears as it is written. The tokenizer is that of the training text: the folder of token
ids (--tokens) that the config names. Without a text, each line of the terminal is a prompt of its
own, until an empty line or the end of the input; lines can be piped in.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from options import add_config_options, default_device

if TYPE_CHECKING:
    from torch import Tensor, nn


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config of the model')
    add('checkpoint', help='its weights')
    add('text', nargs='*', help='texts to continue (default: read them line by line)')
    add('--max-new-tokens', type=int, default=64, help='most tokens to add (default: %(default)s)')
    add('--temperature', type=float, default=0.0, help='0: always the best token (default)')
    add('--top-k', type=int, help='sample among the k best tokens')
    add('--top-p', type=float, help='sample among the best tokens of this probability together')
    add('--repetition-penalty', type=float, default=1.0, help='above 1: avoid what has occurred')
    add('--stop', nargs='+', default=[], help='strings that end a text')
    add('--seed', type=int, help='of the random numbers (default: another one each time)')
    add('--tokens', help='folder of token ids (default: that of train_dataloader)')
    add('--device', help='cpu, cuda:0, ... (default: cuda where there is a GPU, cpu elsewhere)')
    add_config_options(parser, 'overrides of the config, key=value')
    return parser


def load(args: argparse.Namespace):
    """Builds the model with its weights, and the tokenizer of its text.

    Raises:
        ValueError: If the config is of no language model, or names no folder of token ids.
    """
    from mmengine.config import Config

    from hyper_mm.checkpoints import load_weights
    from hyper_mm.datasets.text_tokenizers import tokenizer_of
    from hyper_mm.registry import MODELS

    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    kind = cfg.get('model', {}).get('type', '')
    if kind.rsplit('.', 1)[-1] != 'HelmForCausalLM':
        raise ValueError(f'model.type must be hyper_mm.HelmForCausalLM, got {kind!r}')
    folder = args.tokens or cfg.get('train_dataloader', {}).get('dataset', {}).get('data_root')
    if not folder:
        raise ValueError(f'--tokens must be given: {args.config} names no data_root')
    model = MODELS.build(cfg.model)
    model.load_state_dict(load_weights(args.checkpoint))
    return model.to(args.device or default_device()).eval(), tokenizer_of(folder)


def pieces(model: nn.Module, tokenizer, text: str, args: argparse.Namespace) -> Iterator[str]:
    """What follows a text, piece by piece as it is decoded.

    Raises:
        ValueError: At the call, if the prompt leaves no room for a token, or holds parts that the
            vocabulary lacks.
    """
    import torch

    from hyper_mm.datasets.text_tokenizers import StopStrings

    begin = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    ids = [begin, *(tokenizer.encode(text) if text.strip() else [])]
    room = model.decoder.max_length - len(ids)
    if room < 1:
        raise ValueError(
            f'the text must be of fewer than max_length = {model.decoder.max_length} tokens, got '
            f'{len(ids)}'
        )
    device = next(model.parameters()).device
    generator = None
    if args.seed is not None:
        generator = torch.Generator(device).manual_seed(args.seed)
    stop = StopStrings(args.stop, tokenizer.decode)
    stream = model.stream(
        torch.tensor([ids], device=device),
        min(args.max_new_tokens, room),
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        eos_id=tokenizer.eos_id,
        generator=generator,
        stop=stop if args.stop else None,
        repetition_penalty=args.repetition_penalty,
    )
    return decoded(stream, ids, tokenizer, stop)


def decoded(stream: Iterator[Tensor], ids: list[int], tokenizer, stop) -> Iterator[str]:
    """Text of the tokens of a stream that follow ``ids``, up to where it stops."""
    start, new, shown = tokenizer.decode(ids), [], ''
    for token in stream:
        new += token.tolist()
        # decoded with the prompt: white space belongs to what stands before it
        whole = tokenizer.decode(ids + new)
        own = stop.cut(whole[len(start) :] if whole.startswith(start) else whole)
        if own.startswith(shown) and not own.endswith('\ufffd'):  # not within a letter
            yield own[len(shown) :]
            shown = own


def show(model: nn.Module, tokenizer, text: str, args: argparse.Namespace) -> None:
    """Prints a text and what follows it."""
    found = pieces(model, tokenizer, text, args)
    print(text, end='', flush=True)
    for piece in found:
        print(piece, end='', flush=True)
    print(flush=True)


def converse(model: nn.Module, tokenizer, args: argparse.Namespace) -> None:
    """Reads prompts until an empty line; what is wrong with one is said, and the next is read."""
    while True:
        if sys.stdin.isatty():
            print('> ', end='', flush=True)
        text = sys.stdin.readline().rstrip('\n')
        if not text:
            return
        try:
            show(model, tokenizer, text, args)
        except ValueError as error:
            print(error, file=sys.stderr)


def main() -> None:
    """Command line."""
    parser = build_parser()
    args = parser.parse_args()
    try:
        model, tokenizer = load(args)
        for text in args.text:
            show(model, tokenizer, text, args)
    except (ValueError, ImportError, FileNotFoundError, RuntimeError) as error:
        raise SystemExit(f'generate.py: {error}') from error
    if not args.text:
        converse(model, tokenizer, args)


if __name__ == '__main__':
    main()
