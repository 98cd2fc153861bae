"""Arms of the study of prompts on LiteCLIP, on a small model and made-up images."""

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
    for arm, other in small.PAIRS:
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


def test_features_are_kept(tool, tmp_path):
    class Model:
        calls = 0

        def encode_image(self, images):
            Model.calls += 1
            return images.flatten(1)

    def read(image):
        return torch.ones(3) * (1 + image.convert('L').getpixel((0, 0)))

    paths = [str(tmp_path / f'{i}.png') for i in range(4)]
    for i, path in enumerate(paths):
        Image.new('L', (8, 8), 50 * i).save(path)
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


def found(value):
    return dict(accuracy=[value, value], trained=1234, seconds=0.25)


def test_page(tool, task):
    sets, arms = ['classes', 'omniglot'], list(tool.ARMS)
    args = SimpleNamespace(sets=sets, shots=[1, 4], seeds=[1, 2], arms=arms, threads=1)
    few, transfer = {}, {}
    for name in sets:
        few['zero-shot', name, 0] = transfer['zero-shot', name] = [found(40.0)]
        for place, arm in enumerate(arms[1:]):
            for shots in args.shots:
                few[arm, name, shots] = [found(50.0 + place), found(52.0 + place)]
            transfer[arm, name] = few[arm, name, 4]
    best = dict.fromkeys(arms, 1e-3)
    text = tool.page(args, dict.fromkeys(sets, task), few, transfer, best, 32.0)
    lines = [x for x in text.splitlines() if x.startswith('| LatHAdapter alone')]
    assert '51.00 ± 1.00' in lines[0] and '1,234' in lines[0] and '0.25' in lines[0]
    assert [line.count('51.00 ± 1.00') for line in lines[:3]] == [2, 5, 5]
    assert len(lines) == 5  # minus zero-shot, which has one seed, in two sets
    assert lines[3].startswith('| LatHAdapter alone | zero-shot | classes |')
    assert lines[3].count('11.00 ± 1.00') == 5
    (line,) = (x for x in text.splitlines() if x.startswith('| CoOp + LatHAdapter | CoOp | omni'))
    assert line.count('1.00 ± 0.00') == 5
    assert '`classes` (classes of Tiny ImageNet): 4 classes, 16 tested images' in text


def test_arms_at_the_rate_of_others(small, task, tmp_path, monkeypatch, capsys):
    """Plain prompts are trained again only where the head has another rate than they."""
    import hyper_mm

    for name, module in (('lite_clip', hyper_mm), ('write_table', small)):
        monkeypatch.setattr(module, name, lambda *_: (None, None, None))
    monkeypatch.setattr(small, 'tasks_of', lambda args: (dict(classes=task), task))
    monkeypatch.setattr(small, 'Images', lambda *_: Known(4))
    rates = {'CoOp': 1e-3, 'CoOp + LatHAdapter': 1e-3, 'deep prompts': 1e-2}
    trained = []

    def run(arm, images, task, tests, scale, shots, rate, seed, steps):
        trained.append((arm, rate))
        return found(60.0 if rate == rates.get(arm, 3e-3) else 50.0)

    monkeypatch.setattr(small, 'run', run)
    command = ['tool', '--work-dir', str(tmp_path), '--shots', '2', '--seeds', '1', '--out', 'x']
    monkeypatch.setattr('sys.argv', command)
    small.main()
    assert trained.count(('deep prompts, rate of the head', 3e-3)) == 2
    assert not any(arm == 'CoOp, rate of the head' for arm, _ in trained)
    text = capsys.readouterr().out
    assert '| deep prompts + LatHAdapter | deep prompts, rate of the head | classes |' in text
    assert '| CoOp, rate of the head |' not in text
    count = len(trained)
    small.main()
    assert len(trained) == count  # all is kept


def test_an_arm_needs_the_one_whose_rate_it_takes(tool, monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', ['tool', '--arms', 'CoOp, rate of the head'])
    with pytest.raises(SystemExit):
        tool.parse_args()
    assert "must hold 'CoOp + LatHAdapter'" in capsys.readouterr().err
    monkeypatch.setattr('sys.argv', ['tool', '--sets', 'cars'])
    with pytest.raises(SystemExit):
        tool.parse_args()
    assert '--sets must be some of' in capsys.readouterr().err
