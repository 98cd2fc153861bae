"""Ten thousand names, from the list to a segmented image."""

from __future__ import annotations

import pytest
import torch

for library in ('mmseg', 'open_clip'):
    pytest.importorskip(library)

from hyper_mm.datasets.vocabulary import Vocabulary  # noqa: E402
from hyper_mm.models.utils.open_clip import build_open_clip  # noqa: E402
from hyper_mm.models.utils.vocabulary_features import VocabularyEncoder  # noqa: E402

COUNT = 10_000
NAMES = [f'thing {k}' for k in range(COUNT)]
TOWERS = dict(
    embed_dim=16,
    quick_gelu=True,
    vision_cfg=dict(image_size=32, layers=3, width=16, head_width=8, patch_size=8),
    text_cfg=dict(context_length=24, vocab_size=49408, width=16, heads=2, layers=1),
)


def test_a_list_is_checked_in_one_pass():
    vocabulary = Vocabulary(NAMES)
    assert len(vocabulary) == COUNT
    with pytest.raises(ValueError, match='thing 7'):
        Vocabulary([*NAMES, 'thing 7'])


@pytest.mark.slow
@torch.no_grad()
def test_a_picture_is_segmented_by_them():
    from hyper_mm.registry import MODELS

    torch.manual_seed(0)
    preprocessor = dict(
        type='mmseg.SegDataPreProcessor', size=(32, 32), mean=[0.0] * 3, std=[1.0] * 3
    )
    model = MODELS.build(
        dict(
            type='hyper_mm.OpenVocabSegmentor',
            clip=dict(model=TOWERS),
            vocabulary=NAMES,
            text=dict(chunk=500),
            data_preprocessor=preprocessor,
            test_cfg=dict(mode='whole'),
        )
    ).eval()
    data = model.data_preprocessor(dict(inputs=[torch.randn(3, 32, 32)]), False)
    (found,) = model(**data, mode='predict')
    labels = found.pred_sem_seg.data
    assert labels.shape == (1, 32, 32) and labels.min() >= 0 and labels.max() < COUNT
    features = VocabularyEncoder(build_open_clip(TOWERS).eval(), chunk=500)
    assert features.mean(Vocabulary(NAMES)).isfinite().all()
