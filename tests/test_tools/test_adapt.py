"""Adaptation of a segmentor to a new site, on crops of real images."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip('mmseg')
pytest.importorskip('monai')
pytest.importorskip('scipy')

from mmengine.config import Config  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

from hyper_mm.registry import MODELS  # noqa: E402
from tests.conftest import REPO  # noqa: E402
from tests.helpers import runs  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402

pytestmark = pytest.mark.mmseg
TOOL = load_tool('adapt.py')

CONFIG = f"""
_base_ = {str(REPO / 'configs' / '_base_' / 'default_runtime.py')!r}
norm_cfg = dict(type='IN', affine=True)
segmentor = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3,
        seg_pad_val=255, size=(32, 32), test_cfg=dict(size_divisor=2)),
    backbone=dict(type='UNet', base_channels=4, num_stages=2, strides=(1, 1), enc_num_convs=(1, 1),
        dec_num_convs=(1,), downsamples=(True,), enc_dilations=(1, 1), dec_dilations=(1,),
        norm_cfg=norm_cfg),
    decode_head=dict(type='FCNHead', in_channels=4, channels=4, num_convs=0, num_classes=2,
        in_index=-1, dropout_ratio=0.0, concat_input=False, norm_cfg=norm_cfg),
    test_cfg=dict(mode='whole'))
model = {{model}}
test_dataloader = dict(dataset=dict(type='BaseSegDataset',
    metainfo=dict(classes=('cell', 'membrane'), palette=[[0, 0, 0], [255, 0, 0]]),
    pipeline=[dict(type='LoadImageFromFile'), dict(type='Resize', scale_factor=0.5),
        dict(type='LoadAnnotations'), dict(type='PackSegInputs')]))
"""
LEARNER = "dict(type='hyper_mm.MetaLearner', model=segmentor, inner_lr=0.5, test_steps=12)"


def write_model(folder, model=LEARNER):
    """A config and a checkpoint of random weights."""
    config, checkpoint = folder / 'config.py', folder / 'checkpoint.pth'
    config.write_text(CONFIG.format(model=model))
    cfg = Config.fromfile(config)
    init_default_scope('mmseg')
    torch.manual_seed(0)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), checkpoint)
    return [str(config), str(checkpoint)]


@pytest.fixture(scope='module')
def site(tmp_path_factory, data_dir):
    """Crops of membranes: three to learn from, of two sizes, and one to test on."""
    root, source = tmp_path_factory.mktemp('site'), data_dir / 'membrane'
    images = sorted((source / 'images' / 'train').iterdir())[:4]
    for i, image in enumerate(images):
        folder = root / ('query' if i == 3 else 'support')
        box = (0, 0, 64, 72 if i == 1 else 64)
        mask = source / 'annotations' / 'train' / f'{image.stem}.png'
        for kind, file, suffix in (('images', image, '.jpg'), ('masks', mask, '.png')):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.open(file).crop(box).save(folder / kind / f'{i}{suffix}')
    return root


def test_a_meta_trained_model_is_adapted(site, tmp_path, capsys):
    out = tmp_path / 'out'
    data = ['--support', str(site / 'support'), '--query', str(site / 'query')]
    data += ['--predict', str(site / 'query' / 'images')]
    TOOL.main([*write_model(tmp_path), *data, '--out', str(out)])
    found = json.loads((out / 'metrics.json').read_text())
    assert len(found['losses']) == found['steps'] <= 12
    rates = {row['rate'] for row in found['tried']} - {None}
    assert sorted(rates) == pytest.approx([0.5 / 3, 0.5, 1.5])
    best = max(row['dice'] for row in found['tried'] if row['steps'])
    chosen = [
        r for r in found['tried'] if (r['rate'], r['steps']) == (found['rate'], found['steps'])
    ]
    assert chosen[0]['dice'] == pytest.approx(best)
    assert {'dice', 'hd95', 'dice/membrane', 'hd95/membrane'} <= found['before'].keys()
    assert found['before'] != found['after'] and found['how'] == 'query'
    assert Image.open(out / 'pictures' / '3.png').width > 500
    text = capsys.readouterr().out
    assert f'{found["after"]["dice"]:.2f}' in text and 'adapted.pth' in text
    assert f'found on the support: rate {found["rate"]:g}, {found["steps"]} step' in text
    # the stock test of what was written has the scores that were shown
    args = (out / 'adapted.py', out / 'adapted.pth', '--work-dir', tmp_path)
    tested = tmp_path / 'tested.json'
    args = (*args, '--out', tested, '--out-item', 'metrics')
    runs.run(runs.TEST, *args, log=tmp_path / 'log')
    assert json.loads(tested.read_text()) == pytest.approx(found['after'])
    # the label maps of --predict are those that were scored
    labels = np.asarray(Image.open(out / 'predictions' / 'labels' / '3.png'))
    truth = np.asarray(Image.open(site / 'query' / 'masks' / '3.png'))
    both = ((labels == 1) & (truth == 1)).sum()
    dice = 200 * both / ((labels == 1).sum() + (truth == 1).sum())
    assert dice == pytest.approx(found['after']['dice/membrane'])
    sure = np.asarray(Image.open(out / 'predictions' / 'confidence' / '3.png'))
    assert sure.shape == labels.shape and sure.min() >= 127  # of two classes
    with (out / 'predictions' / 'predictions.csv').open() as stream:
        (row,) = csv.DictReader(stream)
    assert row['image'] == '3.jpg' and float(row['membrane']) == pytest.approx(labels.mean())
    assert Image.open(out / 'predictions' / 'overlays' / '3.png').mode == 'RGB'
    with (out / 'cases_after.csv').open() as stream:
        (row,) = csv.DictReader(stream)
    assert float(row['dice']) == pytest.approx(found['after']['dice/membrane'], abs=1e-4)


def test_a_plain_model_takes_given_steps_and_is_judged_by_images_left_out(site, tmp_path, capsys):
    arguments = write_model(tmp_path, 'segmentor')
    support = ['--support', str(site / 'support'), '--out', str(tmp_path / 'out')]
    TOOL.main([*arguments, *support, '--steps', '1', '--lr', '0.1', '--crop', '20'])
    text = ' '.join(capsys.readouterr().out.split())  # images of 64 x 72, halved by the pipeline
    assert 'InstanceNorm2d' in text and 'give --crop 36' in text
    shutil.rmtree(tmp_path / 'out')
    TOOL.main([*arguments, *support, '--steps', '3', '--lr', '0.1', '--pictures', '1'])
    found = json.loads((tmp_path / 'out' / 'metrics.json').read_text())
    assert len(found['losses']) == 3 and found['query'] == found['support']
    assert found['how'] == 'left out' and found['tried'] == []
    assert len([*(tmp_path / 'out' / 'pictures').iterdir()]) == 1
    text = capsys.readouterr().out
    assert 'left out' in text and 'fewer than 5' in text and 'normalizes' not in text
    with (tmp_path / 'out' / 'cases_after.csv').open() as stream:
        assert len([*csv.DictReader(stream)]) == 3
    cfg = Config.fromfile(arguments[0])
    model = MODELS.build(cfg.model)
    state = torch.load(tmp_path / 'out' / 'adapted.pth')['state_dict']
    model.load_state_dict(state)
    before = torch.load(arguments[1])['state_dict']
    assert any(not torch.equal(before[k], v) for k, v in state.items())


def test_another_number_of_classes(site, tmp_path, capsys):
    arguments = write_model(tmp_path, 'segmentor')
    out = tmp_path / 'out'
    options = ['--steps', '2', '--lr', '0.1', '--classes', 'background', 'membrane', 'hole']
    TOOL.main([*arguments, '--support', str(site / 'support'), *options, '--out', str(out)])
    assert 'Not in the support: hole' in capsys.readouterr().out
    cfg = Config.fromfile(out / 'adapted.py')
    assert cfg.model.decode_head.num_classes == 3
    model = MODELS.build(cfg.model)
    state = torch.load(out / 'adapted.pth')['state_dict']
    model.load_state_dict(state)
    assert model.decode_head.conv_seg.weight.shape[0] == 3
    assert cfg.test_dataloader.dataset.metainfo.classes == ('background', 'membrane', 'hole')


def refuse(capsys, arguments, message):
    with pytest.raises(SystemExit):
        TOOL.main([str(a) for a in arguments])
    assert message in capsys.readouterr().err.replace('\n', ' ')


def test_masks_that_do_not_fit(site, tmp_path, capsys):
    model, support = write_model(tmp_path), site / 'support'
    (tmp_path / 'images').mkdir()
    (tmp_path / 'masks').mkdir()
    Image.new('RGB', (8, 6)).save(tmp_path / 'images' / 'a.png')
    labels = np.zeros((6, 8), np.uint8)
    labels[2:] = 255  # 255 means no label: foreground so marked would be left out silently
    for mask, message in (
        (labels, 'at least two classes, got [0]'),
        (np.zeros((6, 8), np.uint8), 'at least two classes, got [0]'),
        (np.eye(8, dtype=np.uint8), 'one channel of (6, 8)'),
        (np.zeros((6, 8, 3), np.uint8), 'got (6, 8, 3): write the numbers of the classes'),
    ):
        Image.fromarray(mask).save(tmp_path / 'masks' / 'a.png')
        refuse(capsys, [*model, '--support', tmp_path], message)
    refuse(capsys, [*model, '--support', tmp_path, '--query', support], message)
    refuse(capsys, [*model, '--support', support, '--query', tmp_path], message)
    (tmp_path / 'images' / 'a.png').write_bytes(b'none')
    refuse(capsys, [*model, '--support', tmp_path], 'a.png')
    refuse(capsys, [*model, '--support', support, '--pictures', '-1'], 'pictures must be')
    text = (tmp_path / 'config.py').read_text()
    (tmp_path / 'config.py').write_text(text[: text.index('test_dataloader')])
    refuse(capsys, [*model, '--support', support], 'test_dataloader')


def test_bad_input(site, tmp_path, capsys):
    model = write_model(tmp_path)
    support = site / 'support'
    refuse(capsys, [*model, '--support', tmp_path], 'must hold the folders images')
    refuse(capsys, [*model, '--support', support, '--lr', '0'], 'lr must be positive')
    refuse(capsys, [*model, '--support', support, '--steps', '-1'], 'steps must be an integer')
    names = [*model, '--support', support, '--classes', 'unsure', 'image', '--predict']
    refuse(capsys, [*names, support / 'images'], "must not be called ['image', 'unsure']")
    (tmp_path / 'images').mkdir()
    (tmp_path / 'masks').mkdir()
    Image.new('RGB', (8, 8)).save(tmp_path / 'images' / 'a.png')
    refuse(capsys, [*model, '--support', tmp_path], 'has no mask')
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(tmp_path / 'masks' / 'a.png')
    refuse(capsys, [*model, '--support', tmp_path], 'has [7]')
    other = tmp_path / 'other.pth'
    torch.save(dict(state_dict=dict(weight=torch.zeros(1))), other)
    refuse(capsys, [model[0], other, '--support', support], 'do not match')
    prototypes = (
        "dict(type='hyper_mm.PrototypicalSegmentor', model=dict(segmentor, "
        "decode_head=dict(type='hyper_mm.PrototypicalHead')))"
    )
    (tmp_path / 'prototypes').mkdir()
    model = write_model(tmp_path / 'prototypes', prototypes)
    refuse(capsys, [*model, '--support', support], 'gradient steps')


def test_an_image_that_is_learned_from_and_judged(site, tmp_path, capsys):
    model = write_model(tmp_path)
    for kind in ('images', 'masks'):
        shutil.copytree(site / 'support' / kind, tmp_path / 'query' / kind)
    arguments = [*model, '--support', site / 'support', '--query']
    refuse(capsys, [*arguments, site / 'support'], 'is learned from, too')
    shutil.copy(site / 'query' / 'images' / '3.jpg', tmp_path / 'query' / 'images' / '0.jpg')
    refuse(capsys, [*arguments, tmp_path / 'query'], '1.jpg is learned from, too, as 1.jpg')
    refuse(capsys, [*arguments, site / 'query', '--classes', 'a', 'a'], 'different names')


def test_a_model_that_says_one_class_is_named(site, tmp_path, capsys):
    """All is membrane: its Dice is above that of the model before, and it is of no use."""
    out, model = tmp_path / 'out', write_model(tmp_path, 'segmentor')
    state = torch.load(model[1])
    state['state_dict']['decode_head.conv_seg.bias'] += torch.tensor([-50.0, 50.0])
    torch.save(state, model[1])
    shutil.copytree(site / 'support', tmp_path / 'support')
    shutil.copy(site / 'support' / 'images' / '0.jpg', tmp_path / 'support' / 'images' / '2.jpg')
    arguments = [*model, '--support', tmp_path / 'support', '--query', site / 'query']
    arguments += ['--lr', '1e-6', '--steps', '1', '--out', out]
    TOOL.main([str(a) for a in arguments])
    text = capsys.readouterr().out
    assert 'says membrane at every pixel' in text and '0.jpg is 2.jpg' in text
    page = (out / 'report.html').read_text()
    assert 'says membrane at every pixel' in page and 'labeled images: fewer than 5' in page


def test_an_earlier_run_leaves_nothing(site, tmp_path):
    out = tmp_path / 'out'
    arguments = [*write_model(tmp_path, 'segmentor'), '--support', str(site / 'support')]
    arguments += ['--lr', '0.1', '--steps', '1', '--out', str(out)]
    TOOL.main([*arguments, '--predict', str(site / 'support')])
    assert len([*(out / 'pictures').iterdir()]) == 3
    mine = out / 'predictions' / 'labels' / 'mine.png'
    mine.touch()
    TOOL.main([*arguments, '--query', str(site / 'query'), '--predict', str(site / 'query')])
    assert [path.name for path in (out / 'pictures').iterdir()] == ['3.png']
    for kind in ('labels', 'overlays', 'confidence'):
        found = {path.name for path in (out / 'predictions' / kind).iterdir()}
        assert found - {'mine.png'} == {'3.png'}
    assert mine.is_file()  # what it has not written


def test_a_stop_and_a_failure_say_so(site, tmp_path, capsys, monkeypatch):
    arguments = [*write_model(tmp_path), '--support', str(site / 'support')]
    arguments += ['--out', str(tmp_path / 'out')]
    for error, code, message in (
        (KeyboardInterrupt(), 130, 'stopped'),
        (ValueError('no rate gives a finite loss'), 2, 'no rate gives'),
    ):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr('hyper_mm.engine.adaptation.steps.choose', fail)
        with pytest.raises(SystemExit) as found:
            TOOL.main(arguments)
        assert found.value.code == code
        written = capsys.readouterr()
        assert message in written.out + written.err
        assert not (tmp_path / 'out').exists()


def test_images_of_12_bits(tmp_path, capsys):
    model = write_model(tmp_path)
    for part in ('images', 'masks'):
        (tmp_path / 'site' / part).mkdir(parents=True)
    image = (np.arange(32 * 32) * 4).reshape(32, 32).astype(np.uint16)
    labels = (image > 2000).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / 'site' / 'images' / 'a.png')
    Image.fromarray(labels).save(tmp_path / 'site' / 'masks' / 'a.png')
    arguments = [*model, '--support', tmp_path / 'site', '--out', tmp_path / 'out', '--steps', '1']
    refuse(capsys, arguments, 'a.png is an image of more than 8 bits, with values from 0 to 4092')
    refuse(capsys, [*arguments, '--window', '5', '5'], 'low must be below high')
    refuse(capsys, [*arguments, '--window', '0', 'inf'], 'both finite, got 0 and inf')
    refuse(capsys, [*arguments, '--window', '5'], 'LOW HIGH or auto')
    # one image: halves are learned from and judged on in turn
    TOOL.main([str(a) for a in (*arguments, '--window', 'auto')])
    found = json.loads((tmp_path / 'out' / 'metrics.json').read_text())
    assert found['how'] == 'halves'
    assert found['window'] == pytest.approx([0.005 * 4092, 0.995 * 4092])
    names = {path.name for path in (tmp_path / 'out' / 'pictures').iterdir()}
    assert names == {'a (left half).png', 'a (right half).png'}
    assert 'nothing about other images' in (tmp_path / 'out' / 'report.html').read_text()
    Image.fromarray(labels.astype(np.uint16)).save(tmp_path / 'site' / 'masks' / 'a.png')
    refuse(capsys, [*arguments, '--window', '0', '4092'], 'a.png must be of 8 bits')
    tall = image.astype(np.float32)
    tall[0, 0] = np.nan
    Image.fromarray(labels).save(tmp_path / 'site' / 'masks' / 'a.png')
    (tmp_path / 'site' / 'images' / 'a.png').unlink()
    Image.fromarray(tall).save(tmp_path / 'site' / 'images' / 'a.tif')
    refuse(capsys, [*arguments, '--window', '0', '4092'], 'a.tif has 1 values that are not finite')
