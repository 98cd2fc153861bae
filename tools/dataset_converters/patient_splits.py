r"""Writes splits.json of sites of images (hyper_mm.SiteSegDataset), whole patients on each side.

Example: python tools/dataset_converters/patient_splits.py data/prostate --images images \
    --patient '(Case\d+)_' --shares train=0.7 val=0.15 test=0.15
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import defaultdict
from pathlib import Path


def patients_of(files: list[Path], pattern: str) -> dict[str, list[str]]:
    """Names of the images of each patient.

    Args:
        files: The images.
        pattern: Regular expression whose first group is the patient, searched in the name.

    Raises:
        ValueError: If a name does not match.
    """
    found = defaultdict(list)
    for file in files:
        match = re.search(pattern, file.stem)
        if match is None or not match.groups():
            raise ValueError(f'--patient {pattern!r} must match {file.stem} and have a group')
        found[match[1]].append(file.stem)
    return dict(found)


def split(patients: dict[str, list[str]], shares: dict[str, float], seed: int) -> dict:
    """Names of the images of each part.

    Args:
        patients: Names of the images of each patient.
        shares: Share of the patients of each part; each part gets at least one.
        seed: Seed of the draw.

    Raises:
        ValueError: If there are fewer patients than parts.
    """
    if len(patients) < len(shares):
        raise ValueError(f'{len(patients)} patients are fewer than the parts {[*shares]}')
    names, total = sorted(patients), sum(shares.values())
    random.Random(seed).shuffle(names)
    parts: dict[str, list[str]] = {}
    given = 0.0
    for number, (part, share) in enumerate(shares.items()):
        begin = sum(len(p) for p in parts.values())
        given += share / total
        left = len(shares) - number - 1
        end = min(max(round(given * len(names)), begin + 1), len(names) - left)
        parts[part] = names[begin:end]
    return {part: sorted(sum((patients[p] for p in who), [])) for part, who in parts.items()}


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('root', type=Path, help='folder of the sites; splits.json is written there')
    add('--images', default='images', help='folder of the images in each site (%(default)s)')
    add('--patient', required=True, help='regular expression; its first group is the patient')
    add('--shares', nargs='+', default=['train=0.7', 'val=0.15', 'test=0.15'])
    add('--seed', type=int, default=0)
    args = parser.parse_args(argv)
    try:
        shares = {name: float(value) for name, value in (s.split('=') for s in args.shares)}
        if len(shares) < len(args.shares) or not all(value > 0 for value in shares.values()):
            raise ValueError(f'--shares must be PART=SHARE, positive, got {args.shares}')
        found = {}
        for site in sorted(p for p in args.root.iterdir() if (p / args.images).is_dir()):
            files = sorted(f for f in (site / args.images).iterdir() if f.name[0] != '.')
            patients = patients_of(files, args.patient)
            found[site.name] = split(patients, shares, args.seed)
            counts = ', '.join(f'{part} {len(names)}' for part, names in found[site.name].items())
            print(f'{site.name}: {len(patients)} patients; images: {counts}')
        if not found:
            raise ValueError(f'{args.root} has no site with a folder {args.images}')
    except (ValueError, OSError, re.error) as error:
        parser.error(str(error))
    (args.root / 'splits.json').write_text(json.dumps(found, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
