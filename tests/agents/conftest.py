"""Fixtures of the tests of agents."""

from collections.abc import Iterator

import pytest
import tensorflow as tf


@pytest.fixture(name='eagerly')
def eagerly_fixture() -> Iterator[None]:
  """No graphs: compiling one takes longer than all the steps of a test."""
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)
