"""One version, in all files that name it."""

import re

from hyper_mm.version import __version__


def test_is_a_release_number():
    assert re.fullmatch(r'\d+\.\d+\.\d+', __version__)


def test_of_the_package_and_its_citation(repo):
    import hyper_mm

    assert hyper_mm.__version__ == __version__
    assert f'\nversion: {__version__}\n' in (repo / 'CITATION.cff').read_text()
