"""Turns text files into files of token ids, for PackedTokenDataset.

    python tools/dataset_converters/tokenize_text.py data/hierarcaps_tokens
        hierarcaps_test_expanded.csv.gz hierarcaps_test.csv
        --columns positive captions --group image_url --compact
    python tools/dataset_converters/tokenize_text.py data/wikipedia wiki/*.jsonl.gz --columns text
        --tokenizer tokenizer.json --bos '<|begin_of_text|>' --eos '<|end_of_text|>'

Files are plain text, or csv, tsv and jsonl, of which the columns named are read; all may be gzipped
(.gz). They are streamed: memory does not grow with them. A document is a cell of a column, or of
plain text a paragraph (ended by an empty line), a line, or a file; it is written with the tokens
that begin and end a document. Every document goes to `train` or `val` by a hash of its text, or of
the column --group, so that what belongs together (captions of one image) stays together: the same
command always gives the same files. --tune-share takes a part of the training text aside, `tune`,
on which hyperparameters are chosen; `val` stays what it is without.

--compact renumbers the ids, keeping those that occur in the texts: a small corpus then needs a
small model. `meta.json` keeps the numbers they had; texts with other tokens cannot be encoded then.

The command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from rich.progress import Progress

TABLES = {'.csv': ',', '.tsv': '\t'}
SPLITS = ('train', 'val', 'tune')
PROGRESS = 'progress.json'
CHUNK = 1 << 20
csv.field_size_limit(1 << 30)


class Document(NamedTuple):
    """A text, what decides on its split, and the column that it is from."""

    text: str
    group: str
    column: str | None = None


def suffix(path: Path) -> str:
    """Kind of a file: its suffix without ``.gz``."""
    return Path(path.stem if path.suffix == '.gz' else path.name).suffix


def documents(file: BinaryIO, path: Path, args: argparse.Namespace) -> Iterator[Document]:
    """Documents of an open file; see the head of this file.

    Raises:
        ValueError: If the file is not UTF-8 or not whole, has none of the columns, or a row is not
            of its format; the message says which.
    """
    from hyper_mm.datasets.files import TORN, csv_rows, parse_json

    raw = gzip.GzipFile(fileobj=file) if path.suffix == '.gz' else file
    text = io.TextIOWrapper(raw, encoding='utf-8-sig', newline='')
    try:
        if suffix(path) in TABLES:
            yield from cells(csv_rows(text, path, TABLES[suffix(path)]), path, args)
        elif suffix(path) == '.jsonl':
            lines = ((number, line) for number, line in enumerate(text, 1) if line.strip())
            rows = ((n, parse_json(line, f'{path}, line {n}')) for n, line in lines)
            yield from cells(rows, path, args)
        else:
            for part in parts(text, args.documents):
                yield Document(part, part)
    except (UnicodeDecodeError, *TORN) as error:
        raise ValueError(f'{path}: {error}') from error


def cells(rows: Iterator[tuple[int, dict]], path: Path, args: argparse.Namespace):
    """Documents of the rows of a table, each with its line."""
    if not args.columns:
        raise ValueError(f'--columns must name columns of {path}')
    for number, row in rows:
        columns = [name for name in args.columns if name in row]
        wanted = [args.group] if args.group else []
        missing = [name for name in wanted if not row.get(name)] or (not columns and args.columns)
        if missing:
            raise ValueError(f'{path}, line {number} has no {missing}, only {[*row]}')
        for name in columns:
            text = '' if row[name] is None else row[name]
            if not isinstance(text, str):
                raise ValueError(f'{path}, line {number}: {name} must be a text, got {text!r}')
            yield Document(text, str(row[args.group]) if args.group else text, name)


def parts(text: Iterator[str], what: str) -> Iterator[str]:
    """Lines, paragraphs or the whole of a text."""
    if what == 'line':
        yield from text
        return
    lines: list[str] = []
    for line in text:
        if what == 'paragraph' and not line.strip() and lines:
            yield ''.join(lines)
            lines = []
        elif lines or line.strip():
            lines.append(line)
    if lines:
        yield ''.join(lines)


def split_of(group: str, val_share: float, tune_share: float = 0.0) -> str:
    """Split of a group of documents."""
    number = int.from_bytes(hashlib.blake2b(group.encode(), digest_size=8).digest(), 'big')
    if number < val_share * 2**64:
        return 'val'
    return 'tune' if number < (val_share + tune_share) * 2**64 else 'train'


def write_json(path: Path, content: dict) -> None:
    """Writes a file at once or not at all."""
    part = path.with_name(f'part-{path.name}')
    part.write_text(json.dumps(content) + '\n', encoding='utf-8')
    part.replace(path)


def description(args: argparse.Namespace, spec: dict, digests: bool = True) -> dict:
    """What must be equal for a conversion to be gone on with.

    Args:
        args: Parsed arguments.
        spec: Of the tokenizer.
        digests: Whether the contents of the files are part of it, as they were not in older ones.
    """
    from hyper_mm.engine.records import file_digest

    files = [[path.name, path.stat().st_size] for path in args.files]
    if digests:
        files = [[*known, file_digest(path)] for known, path in zip(files, args.files)]
        if spec['type'] == 'file':
            spec = dict(spec, sha256=file_digest(args.tokenizer))
    return dict(
        files=files,
        tokenizer=spec,
        columns=args.columns,
        group=args.group,
        documents=args.documents,
        val_share=args.val_share,
        compact=args.compact,
        **(dict(tune_share=args.tune_share) if args.tune_share else {}),
    )


def encode(args: argparse.Namespace, tokenizer, state: dict) -> None:
    """Writes the ids of all documents, 32 bits each, from where ``state`` says."""
    outputs = {}
    for split in state['tokens']:
        path = args.out / f'part-{split}.bin'
        path.touch()
        outputs[split] = path.open('r+b')
        outputs[split].truncate(state['tokens'][split] * 4)
        outputs[split].seek(0, io.SEEK_END)

    def save() -> None:
        for output in outputs.values():
            output.flush()
        write_json(args.out / PROGRESS, state)

    sizes = [path.stat().st_size for path in args.files]
    begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    with Progress(disable=args.quiet) as progress:
        task = progress.add_task('tokenizing', total=sum(sizes))
        for number in range(state['file'], len(args.files)):
            path, before = args.files[number], sum(sizes[:number])
            index = -1
            with path.open('rb') as file:
                for index, (text, group, column) in enumerate(documents(file, path, args)):
                    if index < state['document']:
                        continue
                    if column is not None and column not in state['columns']:
                        state['columns'].append(column)
                    split = split_of(group, args.val_share, args.tune_share)
                    try:
                        ids = tokenizer.encode(text) if text.strip() else []
                    except ValueError as error:
                        raise ValueError(f'{path}, document {index + 1}: {error}') from None
                    if ids:
                        ids = np.array([*begin, *ids, tokenizer.eos_id], '<u4')
                        outputs[split].write(ids.tobytes())
                        state['tokens'][split] += len(ids)
                        state['documents'][split] += 1
                    else:
                        state['empty'] += 1
                    state['document'] = index + 1
                    if not (index + 1) % args.save_every:
                        save()
                        progress.update(task, completed=before + file.tell())
            if state['document'] > index + 1:
                raise ValueError(
                    f'{args.out / PROGRESS} says that {state["document"]} documents of {path} are '
                    f'done, which has {index + 1}: empty {args.out} to begin anew'
                )
            state.update(file=number + 1, document=0)
            save()
            progress.update(task, completed=before + sizes[number])
    for output in outputs.values():
        output.close()


def finish(args: argparse.Namespace, tokenizer, state: dict) -> dict:
    """Writes the final files: ids renumbered if asked for, in as few bits as they need."""
    from hyper_mm.datasets.text_tokenizers import META

    raw = {split: args.out / f'part-{split}.bin' for split, n in state['tokens'].items() if n}
    if not raw:
        raise ValueError('the files have no text')
    missing = [name for name in args.columns if name not in state['columns']]
    if missing:
        raise ValueError(f'--columns {missing} are in none of the files')
    original = None
    new = np.arange(tokenizer.vocab_size)
    if args.compact:
        used = np.zeros(tokenizer.vocab_size, bool)
        used[[i for i in (tokenizer.bos_id, tokenizer.eos_id) if i is not None]] = True
        for path in raw.values():
            for ids in chunks(path):
                used[ids] = True
        original = np.flatnonzero(used).tolist()
        new = used.cumsum() - 1
    size = tokenizer.vocab_size if original is None else len(original)
    dtype = np.dtype('uint16' if size <= 2**16 else 'uint32')
    for split, path in raw.items():
        with (args.out / f'{split}.bin').open('wb') as output:
            for ids in chunks(path):
                output.write(new[ids].astype(dtype.newbyteorder('<')).tobytes())
    if tokenizer.spec['type'] == 'file':
        shutil.copyfile(args.tokenizer, args.out / tokenizer.spec['file'])
    meta = dict(
        dtype=dtype.name,
        vocab_size=size,
        bos_id=None if tokenizer.bos_id is None else int(new[tokenizer.bos_id]),
        eos_id=int(new[tokenizer.eos_id]),
        splits={
            split: dict(tokens=state['tokens'][split], documents=state['documents'][split])
            for split in raw
        },
        empty_documents=state['empty'],
        tokenizer=tokenizer.spec,
        original_ids=original,
        made_from=description(args, tokenizer.spec),
    )
    write_json(args.out / META, meta)
    for name in (*(f'part-{split}.bin' for split in SPLITS), PROGRESS):
        (args.out / name).unlink(missing_ok=True)
    return meta


def chunks(path: Path) -> Iterator[np.ndarray]:
    """Reads a file of 32-bit ids, piece by piece."""
    with path.open('rb') as file:
        while data := file.read(4 * CHUNK):
            yield np.frombuffer(data, '<u4')


def check_state(found: dict, fresh: dict, path: Path, args: argparse.Namespace) -> None:
    """Refuses a state to go on from that is damaged, or of which the files have been cut.

    Raises:
        ValueError: It says what to do.
    """
    from hyper_mm.datasets.files import is_integer

    counts = [found.get('file'), found.get('document'), found.get('empty')]
    for name in ('tokens', 'documents'):
        part = found.get(name)
        known = isinstance(part, dict) and part.keys() == fresh[name].keys()
        counts += part.values() if known else [None]
    columns = found.get('columns')
    good = all(map(is_integer, counts)) and found.keys() == fresh.keys()
    good = good and isinstance(columns, list) and {*map(str, columns)} <= {*args.columns}
    if good and found['file'] <= len(args.files):
        files = {split: args.out / f'part-{split}.bin' for split in found['tokens']}
        sizes = {split: f.stat().st_size if f.is_file() else 0 for split, f in files.items()}
        if all(sizes[split] >= 4 * tokens for split, tokens in found['tokens'].items()):
            return
    raise ValueError(f'{path} does not fit the files beside it: empty {args.out} to begin anew')


def convert(args: argparse.Namespace) -> dict:
    """Writes the files of ids, or the rest of them.

    Args:
        args: What :func:`parse_args` gives.

    Returns:
        The content of ``meta.json``.

    Raises:
        ValueError: If an argument, a file, or what the folder holds already does not fit.
        FileNotFoundError: If a file is missing.
    """
    from hyper_mm.datasets.files import read_json
    from hyper_mm.datasets.text_tokenizers import META, build_tokenizer, read_meta

    if not 0 <= args.val_share < 1:
        raise ValueError(f'--val-share must be in [0, 1), got {args.val_share}')
    if not 0 <= args.tune_share < 1 - args.val_share:
        raise ValueError(f'--tune-share must be in [0, 1 - --val-share), got {args.tune_share}')
    if args.save_every < 1:
        raise ValueError(f'--save-every must be at least 1, got {args.save_every}')
    missing = [str(path) for path in args.files if not path.is_file()]
    if missing:
        raise FileNotFoundError(f'no such files: {missing}')
    tokenizer = build_tokenizer(args.tokenizer, args.eos, args.bos)
    wanted = description(args, tokenizer.spec)
    splits = SPLITS if args.tune_share else SPLITS[:2]
    state = dict(
        made_from=wanted,
        file=0,
        document=0,
        empty=0,
        columns=[],
        tokens=dict.fromkeys(splits, 0),
        documents=dict.fromkeys(splits, 0),
    )
    args.out.mkdir(parents=True, exist_ok=True)
    for name in (META, PROGRESS):
        path = args.out / name
        if not path.is_file():
            continue
        found = read_json(path)
        if found.get('made_from') not in (wanted, description(args, tokenizer.spec, False)):
            raise ValueError(
                f'{args.out} must be empty or of the same files and options: {path} is of '
                f'{found.get("made_from")}'
            )
        if name == META:
            return read_meta(args.out)
        check_state(found, state, path, args)
        state = found
    encode(args, tokenizer, state)
    return finish(args, tokenizer, state)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('out', type=Path, help='folder to write to')
    add('files', type=Path, nargs='+', help='text, csv, tsv or jsonl files, gzipped or not')
    add('--tokenizer', default='open_clip', help="'open_clip' or a tokenizer file (json)")
    add('--bos', help='token that begins a document, of a tokenizer file')
    add('--eos', help='token that ends a document, of a tokenizer file')
    add('--columns', nargs='+', default=[], help='columns of csv, tsv and jsonl files')
    add('--group', help='column of what stays in one split (default: the text)')
    add('--documents', choices=['paragraph', 'line', 'file'], default='paragraph')
    add('--val-share', type=float, default=0.05, help='share of validation (default: %(default)s)')
    add('--tune-share', type=float, default=0.0, help='share for choosing hyperparameters')
    add('--compact', action='store_true', help='renumber the ids that occur')
    add('--save-every', type=int, default=2000, help='documents between two states to go on from')
    add('--quiet', action='store_true', help='no progress bar')
    args = parser.parse_args(argv)
    return args


def main() -> None:
    """Command line."""
    args = parse_args()
    try:
        meta = convert(args)
    except (ValueError, ImportError, FileNotFoundError) as error:
        raise SystemExit(f'{Path(__file__).name}: {error}') from error
    for split, numbers in meta['splits'].items():
        print(f'{split}: {numbers["tokens"]:,} tokens of {numbers["documents"]:,} documents')
    print(f'{meta["vocab_size"]:,} ids, {meta["empty_documents"]} empty documents left out')


if __name__ == '__main__':
    main()
