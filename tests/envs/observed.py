"""Made-up observations, for tests of what is said of them."""

import math
from typing import Any

import numpy as np

from envs import observations

LAYOUT = observations.Layout(('brick',))
Observation = dict[str, np.ndarray]


def zeros(*shape: int, layout: observations.Layout = LAYOUT) -> Observation:
  """Returns (a batch of) observations at rest: all angles 0, no rotation."""
  observation = {
    group: np.zeros((*shape, size), np.float32) for group, size in layout.sizes.items()
  }
  layout.get(observation, 'arm_cos')[...] = 1
  for name in layout.objects:
    layout.get(observation, f'{name}/orientation')[..., 0] = 1
  return observation


def having(**values: Any) -> Observation:
  """Returns an observation with some fields set; `__` in a name stands for `/`."""
  observation = zeros()
  for name, value in values.items():
    LAYOUT.get(observation, name.replace('__', '/'))[:] = value
  return observation


def random(*shape: int, layout: observations.Layout = LAYOUT) -> Observation:
  """Returns (a batch of) observations with anything in them that can be."""
  rng = np.random.default_rng(len(shape))
  observation = {
    group: rng.standard_normal((*shape, size)).astype(np.float32)
    for group, size in layout.sizes.items()
  }
  angles = rng.uniform(-math.pi, math.pi, (*shape, 6))
  layout.get(observation, 'arm_cos')[...] = np.cos(angles)
  layout.get(observation, 'arm_sin')[...] = np.sin(angles)
  for name in layout.objects:
    quaternion = layout.get(observation, f'{name}/orientation')
    quaternion /= np.linalg.norm(quaternion, axis=-1, keepdims=True)
  return observation
