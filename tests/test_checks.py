from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hyper_mm.checks import (
    check_at_least,
    check_choice,
    check_count,
    check_not_negative,
    check_positive,
    check_range,
    check_subset,
)


def test_allowed_values_pass():
    check_choice(('a', 'b'), one='a', two='b')
    check_choice({1: None, None: None}, key=None)
    check_subset('abc', letters=['c', 'a'])
    check_positive(a=1, b=1e-300, c=math.inf, d=np.float32(2), e=torch.tensor(1.0))
    check_not_negative(a=0, b=-0.0, c=3)
    check_at_least(2, a=2, b=2.5)
    check_count(1, a=1, b=np.int64(7))
    check_count(0, a=0)
    check_range('(0, 1]', a=1, b=0.5)
    check_range('[0, 1)', a=0)
    check_range('(0, inf)', a=1e300)


@pytest.mark.parametrize(
    'call, message',
    [
        (lambda: check_choice(('a', 'b'), kind='c'), "kind must be one of ('a', 'b'), got 'c'"),
        (lambda: check_choice({'a': 1}, kind=None), "kind must be one of ('a',), got None"),
        (lambda: check_subset('ab', x=['c']), "x must be some of ('a', 'b'), got ['c']"),
        (lambda: check_subset('ab', x='aa'), "x must be some of ('a', 'b'), got 'aa'"),
        (lambda: check_subset('ab', x=()), "x must be some of ('a', 'b'), got ()"),
        (lambda: check_positive(a=1, eps=0), 'eps must be positive, got 0'),
        (lambda: check_positive(eps=math.nan), 'eps must be positive, got nan'),
        (lambda: check_not_negative(w=-1e-9), 'w must not be negative, got -1e-09'),
        (lambda: check_at_least(2, steps=1), 'steps must be at least 2, got 1'),
        (lambda: check_count(1, n=0), 'n must be an integer of at least 1, got 0'),
        (lambda: check_count(1, n=2.0), 'n must be an integer of at least 1, got 2.0'),
        (lambda: check_count(1, n=True), 'n must be an integer of at least 1, got True'),
        (lambda: check_count(1, n='2'), "n must be an integer of at least 1, got '2'"),
        (lambda: check_range('(0, 1]', p=0), 'p must be in (0, 1], got 0'),
        (lambda: check_range('(0, 1]', p=1.5), 'p must be in (0, 1], got 1.5'),
        (lambda: check_range('[0, 1)', p=1), 'p must be in [0, 1), got 1'),
        (lambda: check_range('(0, inf)', p=math.inf), 'p must be in (0, inf), got inf'),
        (lambda: check_range('[0, 1]', p=math.nan), 'p must be in [0, 1], got nan'),
    ],
)
def test_others_are_refused_by_name(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


@pytest.mark.parametrize('value', [None, 'a', [1]])
@pytest.mark.parametrize(
    'check',
    [
        check_positive,
        check_not_negative,
        lambda **values: check_at_least(1, **values),
        lambda **values: check_range('[0, 1]', **values),
    ],
)
def test_what_is_no_number_is_a_type_error(check, value):
    with pytest.raises(TypeError, match='scale must be a number, got'):
        check(scale=value)
