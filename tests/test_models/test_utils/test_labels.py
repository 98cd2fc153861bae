"""Labels that fit a vocabulary."""

import pytest
import torch

from hyper_mm.models.utils.labels import check_labels


@pytest.mark.parametrize('labels', [[], [0], [0, 4, 2]])
def test_labels_of_the_vocabulary(labels):
    check_labels(torch.tensor(labels, dtype=torch.long), 5)


@pytest.mark.parametrize('labels, found', [([0, 5], '0 to 5'), ([-1, 2], '-1 to 2')])
def test_other_labels_are_refused(labels, found):
    with pytest.raises(ValueError, match=rf'labels must be in \[0, 5\).*got {found}'):
        check_labels(torch.tensor(labels), 5)
