import doctest

import pytest

from controller import radio, workload


@pytest.mark.parametrize("module", [radio, workload], ids=lambda module: module.__name__)
def test_the_examples_in_the_docstrings_are_true(module):
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
