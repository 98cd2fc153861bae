from __future__ import annotations

import inspect
import warnings

import pytest

from hyper_mm import deprecation
from hyper_mm.deprecation import renamed_arguments, renamed_attributes, renamed_value


class Base:
    @renamed_arguments(normalise='normalize')
    def __init__(self, dim: int, normalize: bool = False):
        self.dim, self.normalize = dim, normalize


class Derived(Base):
    def __init__(self, **kwargs):
        super().__init__(3, **kwargs)


def test_an_old_argument_is_taken_with_a_warning():
    with pytest.warns(DeprecationWarning, match="argument 'normalise' .* use 'normalize'"):
        assert Base(2, normalise=True).normalize
    with pytest.warns(DeprecationWarning):
        assert Derived(normalise=True).normalize
    assert list(inspect.signature(Base).parameters) == ['dim', 'normalize']


def test_the_new_argument_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert Base(2, normalize=True).normalize and not Derived().normalize
        assert renamed_value('positions', 'learned', learnt='learned') == 'learned'
        assert renamed_value('positions', None, learnt='learned') is None


def test_both_names_at_once_are_refused():
    message = "'normalise' is the old name of 'normalize', .* needs normalize=False"
    with pytest.raises(TypeError, match=message):
        Base(2, normalize=True, normalise=False)


def test_an_old_value_is_replaced_with_a_warning():
    with pytest.warns(DeprecationWarning, match="positions='learnt' .* use 'learned'"):
        assert renamed_value('positions', 'learnt', learnt='learned') == 'learned'


def test_an_old_property_is_read_with_a_warning():
    class Thing:
        color = 'red'
        colour = deprecation.renamed_property('color')

    with pytest.warns(DeprecationWarning, match=r"old name of Thing\.color .* use 'color'"):
        assert Thing().colour == 'red'


def test_an_old_attribute_is_found_with_a_warning():
    get = renamed_attributes('some.module', old_value='hyper_mm.deprecation.renamed_value')
    with pytest.warns(DeprecationWarning, match=r'some\.module\.old_value .*renamed_value'):
        assert get('old_value') is deprecation.renamed_value
    with pytest.raises(AttributeError, match="module 'some.module' has no attribute 'other'"):
        get('other')
