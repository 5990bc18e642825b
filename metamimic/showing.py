"""Demonstration | agent: what a policy does with a demonstration, as a video."""

from collections.abc import Callable, Iterator, Mapping
import os

import dm_env
import numpy as np

from envs import imitation
from envs import rendering
from envs import solving
from metamimic import video
from metamimic.demonstrations import types

Act = Callable[[Mapping[str, np.ndarray]], np.ndarray]
Environment = imitation.ImitationEnvironment | solving.TaskEnvironment


def write_comparison(
  folder: str,
  environment: imitation.ImitationEnvironment,
  demonstrations: types.DemonstrationSet,
  act: Act,
  index: int,
) -> str:
  """Draws a demonstration beside the policy that follows it.

  Args:
    folder: of the video; made if it is not there.
    environment: where to act.
    demonstrations: what to follow is one of them.
    act: the policy: batched observations with `goal` -> actions.
    index: which to follow.

  Returns:
    The path of the video.
  """
  demonstration = demonstrations.demonstrations[index]

  def begin() -> dm_env.TimeStep:
    return environment.reset(index, step=0)

  path = os.path.join(folder, f'{demonstration.name}.mp4')
  return _write(path, environment, demonstration, begin, act, 'agent')


def write_solution(
  folder: str,
  arm: str,
  environment: solving.TaskEnvironment,
  demonstrations: types.DemonstrationSet,
  act: Act,
  index: int,
) -> str:
  """Draws a demonstration beside the policy that solves the task from its start.

  Args:
    folder: as for `write_comparison`.
    arm: name of the policy.
    environment: where to act.
    demonstrations: where to start is the first state of one of them.
    act: the policy: batched observations -> actions.
    index: in which to start.

  Returns:
    The path of the video.
  """
  demonstration = demonstrations.demonstrations[index]

  def begin() -> dm_env.TimeStep:
    return environment.reset(index)

  path = os.path.join(folder, f'{demonstration.name}-{arm}.mp4')
  return _write(path, environment, demonstration, begin, act, arm.replace('_', ' '))


def pictures(
  environment: Environment,
  demonstration: types.Demonstration,
  begin: Callable[[], dm_env.TimeStep],
  act: Act,
  size: tuple[int, int] = (240, 320),
) -> tuple[np.ndarray, np.ndarray]:
  """Returns what a demonstration and an episode of a policy look like.

  Args:
    environment: where to act.
    demonstration: what to draw.
    begin: begins the episode.
    act: the policy: batched observations -> actions.
    size: height and width.

  Returns:
    A picture of each state of the demonstration and one of each of the episode, uint8,
    (T+1, height, width, 3) and (T'+1, height, width, 3).
  """
  renderer = rendering.Renderer(environment.environment, size)

  def acted() -> Iterator[np.ndarray]:
    timestep = begin()
    yield renderer.render()
    while not timestep.last():
      batch = {group: values[None] for group, values in timestep.observation.items()}
      timestep = environment.step(act(batch)[0])
      yield renderer.render()

  demonstrated = renderer.render_states(demonstration.states)
  return np.stack([*demonstrated]), np.stack([*acted()])


def _write(
  path: str,
  environment: Environment,
  demonstration: types.Demonstration,
  begin: Callable[[], dm_env.TimeStep],
  act: Act,
  caption: str,
) -> str:
  os.makedirs(os.path.dirname(path), exist_ok=True)
  left, right = pictures(environment, demonstration, begin, act)
  video.write(path, video.side_by_side(left, right, ('demonstration', caption)))
  return path
