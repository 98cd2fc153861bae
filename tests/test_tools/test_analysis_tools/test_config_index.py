"""Tables of configs, metafiles and the model index agree with the headers of the configs."""

from pathlib import Path

import pytest
import yaml

from tests.helpers.tools import load_tool

ROOT = Path(__file__).resolve().parents[3]
index = load_tool('analysis_tools/config_index.py')
HEADER = '# A model.\n#   python tools/train.py configs/m/a.py\n# Result: 12.3 ± 0.4 mIoU (t.md)\n'


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'configs' / 'm' / 'a.py'
    path.parent.mkdir(parents=True)

    def write(text):
        path.write_text(text)
        return index.read_header(path, tmp_path)

    return write


def test_files_are_up_to_date():
    """Mended by `python tools/analysis_tools/config_index.py`."""
    assert index.main(['--check']) == 0


def test_every_config_is_listed():
    listed = {
        model['Config']
        for part in yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
        for model in yaml.safe_load((ROOT / part).read_text())['Models']
    }
    assert {f'{c}' for c in listed if not (ROOT / c).is_file()} == set()
    found = {p.relative_to(ROOT).as_posix() for p in (ROOT / 'configs').glob('*/*.py')}
    assert {c for c in found if not c.startswith('configs/_base_/')} == listed


def test_header(config):
    header = config(HEADER)
    assert header.title == 'A model.'
    assert header.command == 'python tools/train.py configs/m/a.py'
    assert header.figures == {'mIoU': 12.3}


@pytest.mark.parametrize(
    'result, figures',
    [
        ('not trained (paper: 46.3 mIoU)', {}),
        ('27.01 ± 4.05 % top-1, seeds 0 1 2 (docs/t.md)', {'top-1': 27.01}),
        ('tau_d 0.909 ± 0.028, HyperLex rho 0.069 ± 0.040 (docs/t.md)', {'tau_d': 0.909}),
        ('81.2 Dice of nuclei (87.1 mDice)', {'Dice': 81.2}),
        ('41.7 mIoU, leaf purity 0.631 (k-means 0.611)', {'mIoU': 41.7, 'leaf purity': 0.631}),
    ],
)
def test_figures(config, result, figures):
    text = HEADER.replace('12.3 ± 0.4 mIoU (t.md)', result)
    assert config(text).figures == figures


def test_a_figure_names_its_task(config):
    header = config(HEADER.replace('12.3 ± 0.4 mIoU (t.md)', '41.7 mIoU, leaf purity 0.631'))
    (model,) = yaml.safe_load(index.metafile('himapper', [header]))['Models']
    assert [(r['Task'], r['Metrics']) for r in model['Results']] == [
        ('Semantic Segmentation', {'mIoU': 41.7}),
        ('Part Discovery', {'leaf purity': 0.631}),
    ]


@pytest.mark.parametrize(
    'old, new, message',
    [
        ('# A model.', 'x = 1', 'first line must be the title'),
        ('m/a.py', 'm/b.py', 'second line must be its command'),
        ('# Result: ', '# Expected: ', 'third line must start with "# Result: "'),
    ],
)
def test_incomplete_header(config, old, new, message):
    with pytest.raises(ValueError, match=message):
        config(HEADER.replace(old, new))


def test_readme_needs_its_marks():
    with pytest.raises(ValueError, match='must hold the lines'):
        index.with_table('# Method\n', [], 'README.md')
