"""Demonstration | agent: what a policy does with a demonstration, as a video."""

from collections.abc import Callable, Iterator, Mapping
import os

import numpy as np

from envs import imitation
from envs import rendering
from metamimic import video
from metamimic.demonstrations import types


def write_comparison(
  folder: str,
  environment: imitation.ImitationEnvironment,
  demonstrations: types.DemonstrationSet,
  index: int,
  act: Callable[[Mapping[str, np.ndarray]], np.ndarray],
) -> str:
  """Draws a demonstration beside the policy that follows it.

  Args:
    folder: of the video; made if it is not there.
    environment: where to act.
    demonstrations: what to follow is one of them.
    index: which.
    act: the policy: batched observations with `goal` -> actions.

  Returns:
    The path of the video.
  """
  os.makedirs(folder, exist_ok=True)
  demonstration = demonstrations.demonstrations[index]
  with rendering.Renderer(environment.environment) as renderer:
    left, right = _draw(environment, renderer, demonstration, index, act)
  path = os.path.join(folder, f'{demonstration.name}.mp4')
  video.write(path, video.side_by_side(left, right, ('demonstration', 'agent')))
  return path


def _draw(
  environment: imitation.ImitationEnvironment,
  renderer: rendering.Renderer,
  demonstration: types.Demonstration,
  index: int,
  act: Callable[[Mapping[str, np.ndarray]], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the frames of the demonstration and of the policy, (T + 1, H, W, 3)."""

  def demonstrated() -> Iterator[np.ndarray]:
    for state in demonstration.states:
      environment.environment.set_state(state)
      yield renderer.render()

  def imitated() -> Iterator[np.ndarray]:
    timestep = environment.reset(index, step=0)
    yield renderer.render()
    while not timestep.last():
      batch = {group: values[None] for group, values in timestep.observation.items()}
      timestep = environment.step(act(batch)[0])
      yield renderer.render()

  return np.stack(list(demonstrated())), np.stack(list(imitated()))
