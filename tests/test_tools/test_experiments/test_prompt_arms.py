"""Arms of the study of prompts on LiteCLIP, on a small model and made-up images."""

import zipfile
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

pytest.importorskip('open_clip')
pytest.importorskip('mmpretrain')
pytest.importorskip('transformers')

from tests.helpers.clip_families import bert_config  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402

CNN = dict(timm_model_name='test_efficientnet', timm_pool='avg', timm_proj='linear', image_size=32)


@pytest.fixture(scope='module')
def tool():
    return load_tool('experiments/prompt_arms.py')


@pytest.fixture
def small(tool, tmp_path, monkeypatch):
    """The tool with a small model in the place of LiteCLIP."""
    from hyper_mm.registry import MODELS

    clip, build = dict(model=bert_config(tmp_path, CNN)), MODELS.build

    def smaller(config):
        config = dict(config, clip=clip)
        if 'prompts' in config:
            config['prompts'] = dict(config['prompts'], depth=min(config['prompts']['depth'], 3))
        if 'head' in config:
            config['head'] = dict(config['head'], embed_dims=16)
        torch.manual_seed(0)
        return build(config)

    monkeypatch.setattr(MODELS, 'build', lambda c: smaller(c) if 'clip' in c else build(c))
    for arm, config in tool.ARMS.items():
        if 'prompts' in config:
            prompts = dict(depth=1, **config['prompts']) if 'deep' not in arm else tool.DEEP
            monkeypatch.setitem(tool.ARMS, arm, dict(config, prompts=prompts))
    return tool


class Known:
    """Features of images by name: the first letter is the class."""

    def __init__(self, classes):
        generator = torch.Generator().manual_seed(1)
        self.means = torch.randn(classes, 16, generator=generator)
        self.noise = generator

    def __call__(self, paths):
        rows = torch.tensor([int(path[0]) for path in paths])
        noise = 0.3 * torch.randn(len(rows), 16, generator=self.noise)
        return torch.nn.functional.normalize(self.means[rows] + noise, dim=-1)


@pytest.fixture
def task(tool):
    train = [(f'{label} {i}', label) for label in range(4) for i in range(6)]
    test = [(f'{label} test {i}', label) for label in range(4) for i in range(4)]
    return tool.Task(['cat', 'dog', 'sea', 'bear'], train, test)


def test_part_of_a_task(task):
    found = task.of([2, 0])
    assert found.names == ['sea', 'cat'] and len(found.train) == 12 and len(found.test) == 8
    assert {y for x, y in found.train if x[0] == '2'} == {0}


def test_every_arm_trains(small, task):
    images, parts = Known(4), [task.of([0, 1]), task.of([2, 3])]
    plain = small.run('zero-shot', images, task, [task, *parts], 10.0, 4, 0.0, 0, 3)
    assert plain['trained'] == 0 and plain['seconds'] == 0 and len(plain['accuracy']) == 3
    counts = {}
    for arm in small.ARMS:
        if arm != 'zero-shot':
            found = small.run(arm, images, task, [task, *parts], 10.0, 4, 0.05, 0, 3)
            assert len(found['accuracy']) == 3 and found['seconds'] > 0, arm
            counts[arm] = found['trained']
    assert counts['CoOp'] == 4 * 24 and counts['deep prompts'] == 3 * 4 * 24
    for arm, other in small.PAIRS.items():
        assert counts[arm] == counts.get(other, 0) + counts['LatHAdapter alone']


def test_prompts_learn(small, task):
    images, model = Known(4), small.build('CoOp', 4, 10.0)
    model.set_vocabulary(task.names)
    features, labels = images([x for x, _ in task.train]), torch.tensor([y for _, y in task.train])

    @torch.no_grad()
    def loss():
        return model.eval().losses_of(features, model.text_features(), labels)['loss_ce'].item()

    before = loss()
    assert small.train(model, images, task, 6, 0.1, 0, 15) > 0
    assert loss() < before - 1e-3


def test_scale_of_least_loss(small, task):
    found = small.calibrated(Known(4), task)
    assert found in [2.0**power for power in range(2, 9)]


def test_omniglot_is_read_from_the_archive(tool, tmp_path):
    with zipfile.ZipFile(tmp_path / 'small.zip', 'w') as file:
        for alphabet in ('Greek', 'Early_Aramaic'):
            for i in range(5):
                Image.new('1', (8, 8), i % 2).save(tmp_path / 'x.png')
                file.write(tmp_path / 'x.png', f'images/{alphabet}/character01/{i}.png')
    found = tool.omniglot(tmp_path / 'small.zip', each=2)
    assert found.names == ['Early Aramaic', 'Greek']
    assert len(found.train) == len(found.test) == 4
    assert not {x for x, _ in found.train} & {x for x, _ in found.test}

    class Model:
        calls = 0

        def encode_image(self, images):
            Model.calls += 1
            return images.flatten(1)

    def read(image):
        return torch.ones(3) * (1 + image.convert('L').getpixel((0, 0)))

    paths = [x for x, _ in found.train]
    file = tmp_path / 'features.pt'
    first = tool.Images(Model(), read, file, dict(a=1))(paths)
    assert Model.calls == 4 and first.shape == (4, 3)
    again = tool.Images(Model(), read, file, dict(a=1))(paths[::-1])
    assert Model.calls == 4 and torch.equal(again, first.flip(0))
    tool.Images(Model(), read, file, dict(a=2))(paths)
    assert Model.calls == 8


def test_halves_and_pairs(tool):
    base, new, mean = tool.parts_of([dict(accuracy=[50.0, 100.0]), dict(accuracy=[60.0, 60.0])])
    assert base == [50, 60] and new == [100, 60] and mean == pytest.approx([66.666667, 60])
    assert tool.paired([3.0, 5.0], [1.0]) == [2, 4]
    assert tool.paired([3.0, 5.0], [1.0, 2.0]) == [2, 3]


def test_page(tool, task):
    args = SimpleNamespace(
        sets=['classes'], shots=[1, 4], seeds=[1, 2], arms=list(tool.ARMS), threads=1
    )

    def found(value):
        return dict(accuracy=[value, value], trained=1234, seconds=0.25)

    few = {('zero-shot', 'classes', 1): [found(40.0)]}
    transfer = {'zero-shot': [found(40.0)]}
    for place, arm in enumerate(args.arms[1:]):
        for shots in args.shots:
            few[arm, 'classes', shots] = [found(50.0 + place), found(52.0 + place)]
        transfer[arm] = few[arm, 'classes', 4]
    best = dict.fromkeys(args.arms, 1e-3)
    text = tool.page(args, dict(classes=task), few, transfer, best, 32.0)
    lines = [x for x in text.splitlines() if x.startswith('| LatHAdapter alone')]
    assert '51.00 ± 1.00' in lines[0] and '1,234' in lines[0] and '0.25' in lines[0]
    assert lines[2].count('11.00 ± 1.00') == 5  # minus zero-shot, which has one seed
    lines = [x for x in text.splitlines() if x.startswith('| CoOp + LatHAdapter')]
    assert lines[2].count('1.00 ± 0.00') == 5
    assert 'classes: 4 classes, 16 tested images' in text
