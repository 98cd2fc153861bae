"""What few-shot models by prototypes share."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from hyper_mm.models.meta.prototypical_model import PrototypicalModel
from tests.helpers.few_shot import build, episode

pytestmark = pytest.mark.mmpretrain


def test_labels_are_those_of_the_kind():
    model = build(wrap=False)

    class Unfinished(PrototypicalModel):
        head_name, head_type = 'head', 'a head'

    with pytest.raises(NotImplementedError):
        Unfinished(model).labels({})


def test_threads_predict_by_their_own_support():
    model = build().eval()
    data = [episode(ways) for ways in (2, 3, 4, 5)]

    def predict(one):
        with torch.no_grad():
            found = model.episode_predict(one['support'], [one['query']])
        return torch.stack([sample.pred_score for sample in found])

    wanted = [predict(one) for one in data]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(predict, data * 4))
    for one, two in zip(found, wanted * 4):
        torch.testing.assert_close(one, two)
