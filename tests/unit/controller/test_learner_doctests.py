"""The examples in the learners' docstrings are run."""

import doctest

import pytest

from controller.agents import d3pg, ddqn, schedule


@pytest.mark.parametrize("module", [d3pg, ddqn, schedule], ids=lambda module: module.__name__)
def test_the_examples_in_the_docstrings_are_true(module):
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
