import doctest

import pytest

from controller.cell import observations, radio, workload
from controller.policies import scores


@pytest.mark.parametrize(
    "module", [observations, radio, scores, workload], ids=lambda module: module.__name__
)
def test_the_examples_in_the_docstrings_are_true(module):
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
