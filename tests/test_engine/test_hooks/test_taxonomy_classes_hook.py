"""Classes of label trees and of data sets."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from torch import nn

pytest.importorskip('mmengine')

from mmengine.config import Config  # noqa: E402
from mmengine.model import BaseModel  # noqa: E402

from hyper_mm.engine.hooks.taxonomy_classes_hook import TaxonomyClassesHook  # noqa: E402
from hyper_mm.engine.launch import build_runner  # noqa: E402
from hyper_mm.layers.taxonomy import Taxonomy  # noqa: E402
from hyper_mm.registry import HOOKS  # noqa: E402

CLASSES = ('owl', 'hen', 'cod', 'sky')


def compare(classes, moment, tree=True):
    model = nn.Sequential(nn.Linear(2, 4))
    if tree:
        model[0].taxonomy = Taxonomy.load({'bird': ['owl', 'hen'], 'cod': [], 'sky': []})
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=classes)))
    logger = logging.getLogger('taxonomy')
    runner = SimpleNamespace(model=model, logger=logger)
    setattr(runner, f'{moment}_dataloader', loader)
    getattr(HOOKS.build(dict(type='hyper_mm.TaxonomyClassesHook')), f'before_{moment}')(runner)


@pytest.mark.parametrize('moment', ['train', 'test'])
def test_another_order_is_an_error(moment, caplog):
    compare(CLASSES, moment)
    compare(CLASSES[::-1], moment, tree=False)
    with pytest.raises(ValueError, match="another order .* number 0 is 'owl' there and 'sky' here"):
        compare(CLASSES[::-1], moment)
    assert not caplog.records


@pytest.mark.parametrize('classes', [(), None, ('barn owl', *CLASSES[1:])])
def test_other_names_are_a_warning(classes, caplog):
    compare(classes, 'train')
    assert 'cannot be compared' in caplog.text


def test_our_tools_add_it(tmp_path, no_scope):
    class Model(BaseModel):
        def forward(self, inputs, data_samples=None, mode='tensor'):
            return {}

    config = dict(model=Model(), work_dir=str(tmp_path), launcher='none', default_scope='mmengine')
    runner = build_runner(Config(config, format_python_code=False))  # the model is no text
    assert any(isinstance(hook, TaxonomyClassesHook) for hook in runner.hooks)
