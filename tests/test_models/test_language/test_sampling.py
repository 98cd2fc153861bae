"""Choice of the next token."""

import pytest
import torch

from hyper_mm.models.language.sampling import end_ids, penalize, sample


def test_sampling():
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]]).log_softmax(-1)
    rows = logits.expand(20000, -1)
    assert sample(logits).item() == 0
    assert sample(rows, 1.0, top_k=1).unique().tolist() == [0]
    assert sample(rows, 1.0, top_p=0.5).unique().tolist() == [0]
    assert sample(rows, 1.0, top_p=0.7).unique().tolist() == [0, 1]
    assert sample(rows, 1.0, top_k=3).unique().tolist() == [0, 1, 2]
    for temperature in (1.0, 2.0):
        share = sample(rows, temperature).bincount(minlength=4) / len(rows)
        wanted = (logits[0] / temperature).softmax(-1)
        torch.testing.assert_close(share, wanted, atol=0.02, rtol=0)
    assert sample(rows, 1e-40).unique().tolist() == [0]  # nothing overflows
    assert len(sample(torch.zeros(1000, 5), 1.0, top_k=2).unique()) == 2  # of equal ones as well


@pytest.mark.parametrize('temperature', [0.0, 0.7])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_logits_that_are_not_finite(temperature, dtype):
    good = torch.randn(3, 5).to(dtype)
    for value in ('nan', 'inf'):
        bad = good.clone()
        bad[1, 2] = float(value)
        with pytest.raises(ValueError, match=f'finite .* got {value} as the highest of row 1 '):
            sample(bad, temperature)
    with pytest.raises(ValueError, match='got -inf as the highest of row 0 .*3 of 3 rows'):
        sample(torch.full_like(good, -torch.inf), temperature)
    excluded = good.clone()
    excluded[:, :4] = -torch.inf
    assert sample(excluded, temperature).tolist() == [4, 4, 4]
    assert sample(excluded, temperature, top_k=2, top_p=0.9).tolist() == [4, 4, 4]


def test_penalty_of_tokens_that_have_occurred():
    logits = torch.tensor([[2.0, -2.0, 1.0, 0.0]])
    seen = torch.tensor([[True, True, False, True]])
    assert torch.equal(penalize(logits, seen, 4.0), torch.tensor([[0.5, -8.0, 1.0, 0.0]]))


def test_ends():
    assert end_ids(None, 5) == [] and end_ids(4, 5) == [4] and end_ids((1, 2), 5) == [1, 2]
    for wrong in (5, [0, -1], []):
        with pytest.raises(ValueError, match='eos_id must be'):
            end_ids(wrong, 5)
