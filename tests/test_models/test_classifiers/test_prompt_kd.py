import copy

import pytest
import torch

pytest.importorskip('mmpretrain')
pytest.importorskip('open_clip')
pytestmark = pytest.mark.mmpretrain

from hyper_mm.registry import MODELS  # noqa: E402
from tests.test_models.test_classifiers.test_prompted_clip import (  # noqa: E402
    CLASSES,
    ROUNDINGS,
    TOWERS,
    batch,
    gradients,
)

TEACHER = dict(
    clip=dict(model={**copy.deepcopy(TOWERS), 'embed_dim': 24}),
    prompts=dict(type='IVLP', depth=2, image_depth=2),
)
HEAD = dict(type='hyper_mm.LatHAdapterHead', num_classes=4, embed_dims=24)


def build(**options):
    torch.manual_seed(0)
    config = dict(
        clip=dict(model=TOWERS),
        teacher=TEACHER,
        prompts=dict(type='VPT', image_depth=2),
        vocabulary=CLASSES,
    )
    return MODELS.build(dict(type='hyper_mm.PromptKD', **{**config, **options}))


@pytest.mark.parametrize('head', [None, HEAD])
def test_training(head):
    model = build(head=head)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert all(n.startswith(('prompts.', 'projector.', 'head.')) for n in trained)
    found = gradients(model, *batch())
    assert found.keys() == trained
    assert all(grad.isfinite().all() for grad in found.values())
    assert not model.teacher.training and not model.clip.training and model.projector.training


def test_loss():
    model, (images, samples) = build(temperature=2.0, weight=10.0).train(), batch()
    losses = model.loss(images, samples)
    assert set(losses) == {'loss_kd'}
    with torch.no_grad():
        p = (model.logits(model.image_features(images), model.text_features()) / 2).softmax(-1)
        q = (model.teacher(images) / 2).softmax(-1)
    expected = 10 * 4 * (q * (q / p).log()).mean()
    torch.testing.assert_close(losses['loss_kd'], expected, atol=1e-5, rtol=1e-4)
    del samples[0].gt_label  # no label is read
    model.loss(images, samples)


def test_learns_from_the_teacher():
    model, data = build(), batch(4)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-3)
    losses = []
    for _ in range(10):
        gradients(model, *data)
        optimizer.step()
        losses.append(model.loss(*data)['loss_kd'].item())
    assert losses[-1] < losses[0]


def test_features_of_classes_are_computed_once():
    model = build().train()
    first = model.text_features()
    assert model.train().text_features() is first and model.eval().text_features() is first
    assert not first.requires_grad
    model.set_vocabulary(['dog', 'sun'])
    with torch.no_grad():
        assert model(torch.randn(3, 3, 32, 32)).shape == (3, 2)


def test_pseudo_labels():
    model, (images, samples) = build(head=HEAD, pseudo_labels=True).train(), batch()
    losses = model.loss(images, samples)
    assert {'loss_kd', 'loss_ecls', 'loss_hcls', 'loss_va', 'loss_at'} <= losses.keys()
    with torch.no_grad():
        image, text = model.image_features(images), model.text_features()
        taught = model.teacher(images).argmax(1)
        expected = model.head.loss(image, text, taught)['loss_ecls']
    atol = ROUNDINGS / model.head.tau  # logits are cosines over tau
    torch.testing.assert_close(losses['loss_ecls'], expected, atol=atol, rtol=0)
    with pytest.raises(ValueError, match='pseudo_labels needs a head'):
        build(pseudo_labels=True)


def test_checkpoint_of_the_teacher(tmp_path):
    torch.manual_seed(5)
    trained = MODELS.build(dict(type='hyper_mm.PromptedCLIP', vocabulary=['sea'], **TEACHER))
    torch.save(dict(state_dict=trained.state_dict()), tmp_path / 'teacher.pth')
    model = build(teacher_checkpoint=str(tmp_path / 'teacher.pth'))
    assert torch.equal(model.teacher.prompts.context, trained.prompts.context)
    assert torch.equal(model.teacher.clip.visual.proj, trained.clip.visual.proj)


def test_same_width_without_projector():
    teacher = dict(TEACHER, clip=dict(model=TOWERS))
    model = build(teacher=teacher, projector=False)
    assert model.train().loss(*batch(1))['loss_kd'].isfinite()


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(projector=False), '16 of the student and 24 of the teacher'),
        (dict(prompts=dict(type='IVLP')), "'VPT'"),
        (dict(temperature=0.0), 'temperature'),
        (dict(weight=-1.0), 'weight'),
        (dict(head=dict(HEAD, embed_dims=16)), 'head.embed_dims'),
        (dict(vocabulary=['cat ' * 80]), 'at most 77 tokens'),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_one_class():
    with pytest.raises(ValueError, match='at least two classes, got 1'):
        build(vocabulary=['cat']).train().loss(*batch(2))


def test_batch_of_one_image():
    with pytest.raises(ValueError, match='drop_last'):
        build().train().loss(*batch(1))
