"""A model of several tasks, adapted to a new set of one of them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

for name in ('mmseg', 'mmdet', 'mmpretrain', 'monai'):
    pytest.importorskip(name)

from mmengine.config import Config  # noqa: E402

from hyper_mm.engine.adaptation import tasks  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402
from tests.helpers.mixed_tasks import register_scopes  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402
from tests.test_models.test_meta.test_multi_task_model import learner  # noqa: E402

pytestmark = [pytest.mark.mmseg, pytest.mark.mmdet, pytest.mark.mmpretrain]
TOOL = load_tool('adapt.py')
LOAD = dict(type='LoadImageFromFile')
PIPELINES = dict(
    seg=[LOAD, dict(type='LoadAnnotations'), dict(type='PackSegInputs')],
    det=[
        LOAD,
        dict(type='Resize', scale=(64, 64)),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs'),
    ],
    cls=[LOAD, dict(type='PackInputs')],
)
KINDS = dict(seg='mmseg.BaseSegDataset', det='mmdet.CocoDataset', cls='mmpretrain.CustomDataset')


@pytest.fixture(autouse=True)
def _scopes():
    register_scopes()


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """Config and random weights of a model of three tasks."""
    register_scopes()
    folder, torch_seed = tmp_path_factory.mktemp('mixed'), torch.manual_seed(0)
    assert torch_seed is not None
    sets = {
        task: dict(type='hyper_mm.EpisodeDataset', dataset=dict(
            _scope_=KINDS[task].split('.')[0], type=KINDS[task], pipeline=pipeline))
        for task, pipeline in PIPELINES.items()
    }  # fmt: skip
    cfg = Config(
        dict(
            default_scope='mmseg',
            model=learner(algorithm='fomaml', test_steps=2).to_dict(),
            test_dataloader=dict(dataset=dict(type='hyper_mm.MixedEpisodeDataset', datasets=sets)),
            test_evaluator=[],
        )
    )
    cfg.dump(folder / 'config.py')
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), folder / 'weights.pth')
    return [str(folder / 'config.py'), str(folder / 'weights.pth')]


def squares(size=64, count=4):
    """Images with a bright square, and its box."""
    draw = np.random.default_rng(0)
    for _ in range(count):
        image = draw.integers(0, 60, (size, size, 3)).astype(np.uint8)
        y, x = draw.integers(4, size - 36, 2)
        image[y : y + 32, x : x + 32] += 150
        yield image, (int(x), int(y))


def run(model, folder, *options):
    TOOL.main([*model, '--support', str(folder), '--out', str(out_of(folder)), *options])
    return json.loads((out_of(folder) / 'metrics.json').read_text())


def out_of(folder):
    """Beside the support, whose folders are classes."""
    return folder.with_name(f'{folder.name}_out')


def test_classification_with_other_classes(model, tmp_path):
    for number, (image, _) in enumerate(squares()):
        name = 'dark' if number % 2 else 'bright'
        (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(image // (1 + 3 * (number % 2))).save(tmp_path / name / f'{number}.png')
    found = run(model, tmp_path, '--task', 'cls', '--steps', '8', '--rates', '0.001', '0.01')
    assert found['classes'] == ['bright', 'dark'] and found['how'] == 'left out'
    assert found['new'] == ['head.fc.bias', 'head.fc.weight']
    assert len(found['losses']) == found['steps'] and min(found['losses']) < found['losses'][0]
    tried = {(row['rate'], row['steps']): row['score'] for row in found['tried']}
    chosen = tried.pop((found['rate'], found['steps']))
    assert chosen == max(score for (_, steps), score in [*tried.items(), ((0, 1), chosen)] if steps)
    cfg = Config.fromfile(out_of(tmp_path) / 'adapted.py')
    state = torch.load(out_of(tmp_path) / 'adapted.pth')['state_dict']
    MODELS.build(cfg.model).load_state_dict(state)
    with pytest.raises(SystemExit):
        run(model, tmp_path)  # which task?
    with pytest.raises(SystemExit):
        run(model, tmp_path / 'bright', '--task', 'cls')  # no folders of classes


def test_detection_is_scored_at_the_size_of_the_file(model, tmp_path):
    (tmp_path / 'images').mkdir()
    images, boxes = [], []
    for i, (image, (x, y)) in enumerate(squares(size=96)):
        Image.fromarray(image).save(tmp_path / 'images' / f'{i}.png')
        images.append(dict(id=i, file_name=f'{i}.png', width=96, height=96))
        box = dict(bbox=[x, y, 32, 32], area=1024, iscrowd=0)
        boxes.append(dict(box, id=i, image_id=i, category_id=7))
    coco = dict(images=images, annotations=boxes, categories=[dict(id=7, name='square')])
    (tmp_path / 'annotations.json').write_text(json.dumps(coco))
    found = run(model, tmp_path, '--task', 'det', '--lr', '0.01', '--steps', '3')
    assert found['classes'] == ['square'] and len(found['losses']) == 3
    assert all(name.startswith('bbox_head.conv_cls') for name in found['new'])
    assert 0 <= found['after']['pascal_voc/mAP'] <= 1
    cfg, weights = tasks.single_task(Config.fromfile(model[0]), model[1], 'det', tmp_path / 'x')
    options = type('O', (), dict(support=tmp_path, query=None, device='cpu', rate=None, rates=None))
    from rich.console import Console

    state = torch.load(weights)['state_dict']
    for changes, wrong in (
        (dict(extra=torch.zeros(1)), 'extra'),
        ({next(k for k in state if 'backbone.' in k): torch.zeros(1)}, 'backbone'),
    ):
        torch.save(dict(state_dict={**state, **changes}), tmp_path / 'other.pth')
        with pytest.raises(ValueError, match=rf'other weights than the model .*: 1 .*{wrong}'):
            tasks.TaskAdaptation(cfg, str(tmp_path / 'other.pth'), 'det', options, Console())
    adaptation = tasks.TaskAdaptation(cfg, weights, 'det', options, Console())
    sample = adaptation.support[1]['data_samples']
    original = tasks._original(sample)['gt_instances']['bboxes']
    x, y, *_ = boxes[1]['bbox']
    assert original.tolist() == [pytest.approx([x, y, x + 32, y + 32], abs=1e-3)]
    assert sample.gt_instances.bboxes.tensor.max() <= 64


def test_segmentation_is_the_model_of_that_task(model, tmp_path):
    for kind in ('images', 'masks'):
        (tmp_path / kind).mkdir()
    for i, (image, (x, y)) in enumerate(squares(count=2)):
        labels = np.zeros(image.shape[:2], np.uint8)
        labels[y : y + 32, x : x + 32] = 1
        Image.fromarray(image).save(tmp_path / 'images' / f'{i}.png')
        Image.fromarray(labels).save(tmp_path / 'masks' / f'{i}.png')
    found = run(model, tmp_path, '--task', 'seg', '--lr', '0.1', '--steps', '2')
    assert len(found['losses']) == 2 and (out_of(tmp_path) / 'report.html').is_file()
    state = torch.load(out_of(tmp_path) / 'adapted.pth')['state_dict']
    before = torch.load(model[1])['state_dict']
    assert set(state) == {
        k.removeprefix('model.tasks.seg.') for k in before if k.startswith('model.tasks.seg.')
    }


def test_tasks_that_are_not_there(model, tmp_path):
    cfg = Config.fromfile(model[0])
    assert sorted(tasks.task_names(cfg)) == ['cls', 'det', 'seg']
    assert tasks.task_names(Config(dict(model=dict(type='EncoderDecoder')))) == []
    with pytest.raises(ValueError, match='--task must be one of'):
        tasks.single_task(cfg, model[1], 'depth', tmp_path)
    del cfg.test_dataloader.dataset.datasets['cls']
    with pytest.raises(ValueError, match='data of cls'):
        tasks.single_task(cfg, model[1], 'cls', tmp_path)
    with pytest.raises(FileNotFoundError, match='annotations.json'):
        tasks.classes_of(tmp_path, 'det')
    names = json.dumps(dict(categories=[dict(id=1, name='Bär')]), ensure_ascii=False)
    (tmp_path / 'annotations.json').write_text(names, encoding='utf-8')
    assert tasks.classes_of(tmp_path, 'det') == ('Bär',)


def test_learned_rates_of_all_tasks_are_not_dropped(model, tmp_path):
    state = torch.load(model[1])['state_dict']
    torch.save(dict(state_dict={**state, 'rates.0': torch.ones(1)}), tmp_path / 'meta.pth')
    with pytest.raises(ValueError, match="learned a rate for each weight .*'metasgd'"):
        tasks.single_task(Config.fromfile(model[0]), str(tmp_path / 'meta.pth'), 'seg', tmp_path)


@pytest.mark.parametrize(
    'option',
    [('--predict', 'x'), ('--window', '0', '9'), ('--crop', '32'), ('--no-augment',),
     ('--classes', 'a', 'b'), ('--spacing', '0.5'), ('--pictures', '3')],
)  # fmt: skip
def test_options_of_segmentation_are_not_ignored(model, tmp_path, capsys, option):
    with pytest.raises(SystemExit):
        run(model, tmp_path, '--task', 'cls', *option)
    assert f'{option[0]} has no effect with --task cls' in capsys.readouterr().err
