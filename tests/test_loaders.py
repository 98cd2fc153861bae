"""Importing the loaders registers them with mmengine's runner."""

import subprocess
import sys

import pytest

pytest.importorskip('mmengine')


@pytest.mark.parametrize('name, known', [('hyper_mm', False), ('hyper_mm.loaders', True)])
def test_addresses_of_timm_are_known_after_the_import(name, known):
    code = (
        f'import sys, {name}\n'
        'from mmengine.runner.checkpoint import CheckpointLoader\n'
        "loader = CheckpointLoader._get_checkpoint_loader('timm-vit+https://x')\n"
        "print(loader.__module__.startswith('hyper_mm'))\n"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == str(known)
