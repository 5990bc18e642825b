"""How a policy that learned from our pictures fares with others of the same scene.

    python -m benchmarks.picture_styles runs/results/lift_brick_pixels-seed0

Follows held-out demonstrations with one and the same policy, which sees, and is shown,
pictures of one style at a time, all from the cameras and of the size that it learned
with:

  ours        what it learned from: hulls for meshes, no textures, a lighter floor
  fine        with meshes, studs and textures, as in videos
  dm_control  what dm_control draws at its default quality: with shadows and
              reflections, a dark floor, and the hints of goals and areas
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import os
import sys
from typing import Annotated, Any, Protocol

import numpy as np
import pandas as pd
import tyro

from benchmarks import common
from envs import imitation
from envs import pictures as pictures_lib
from envs import rendering
from envs import simulator
from envs import stepping
from envs import tasks
from metamimic import controllers
from metamimic import evaluation
from metamimic import intervals
from metamimic import loading
from metamimic import run_description
from metamimic.demonstrations import frames
from metamimic.demonstrations import goals
from metamimic.demonstrations import storage
from metamimic.demonstrations import types


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Measures one policy with pictures of several styles."""

  run_dir: Annotated[str, tyro.conf.Positional]
  """A run that learned from pictures."""
  demonstrations: str = ''
  """File of demonstrations; empty: the run's."""
  styles: tuple[str, ...] = ('ours', 'fine', 'dm_control')
  """Which of `STYLES`."""
  episodes: int = 20
  """Held-out demonstrations; a picture of dm_control's takes a tenth of a second."""
  output: str = f'{common.RESULTS}/picture_styles.csv'
  """File of the results."""


class Style(Protocol):
  """What draws an environment from one camera."""

  def render(self) -> np.ndarray:
    """Returns uint8 (height, width, 3): the present state."""

  def render_states(self, states: np.ndarray) -> Iterator[np.ndarray]:
    """Yields what `render` returns in each state; the environment may end up there."""


class Default:
  """Draws as dm_control does at its default quality, from one of our cameras."""

  def __init__(
    self,
    environment: stepping.ManipulationEnvironment,
    size: tuple[int, int],
    camera: str,
  ) -> None:
    """Takes what it is to draw; the arguments are those of `rendering.Renderer`."""
    view = pictures_lib.get(camera)
    self._environment = environment
    self._camera = simulator.engine.MovableCamera(environment.physics, *size)
    self._camera.set_pose(view.target, view.distance, view.azimuth, view.elevation)

  def render(self) -> np.ndarray:
    """Returns uint8 (height, width, 3): the present state."""
    return self._camera.render().copy()  # It uses one array again and again.

  def render_states(self, states: np.ndarray) -> Iterator[np.ndarray]:
    """Yields what `render` returns in each state, to which the environment goes."""
    for state in states:
      self._environment.set_state(state)
      yield self.render()


def _ours(environment: Any, size: tuple[int, int], camera: str) -> Style:
  return rendering.Renderer(environment, size, camera, coarse=True)


STYLES: Mapping[str, Callable[[Any, tuple[int, int], str], Style]] = {
  'ours': _ours,
  'fine': rendering.Renderer,
  'dm_control': Default,
}
"""Name -> what makes something that draws an environment in a size from a camera."""


def follow(
  imitator: loading.Imitator,
  demonstrations: types.DemonstrationSet,
  chosen: Sequence[int],
  reward: Any,
  style: str,
) -> list[evaluation.Episode]:
  """Returns an episode for each chosen demonstration.

  Args:
    imitator: a policy that sees pictures.
    demonstrations: of its task.
    chosen: indices.
    reward: it is measured by.
    style: in `STYLES`.
  """
  pictures = imitator.policy.layout.pictures
  assert pictures is not None
  make = STYLES[style]
  drawn: list[types.Demonstration | frames.Seen] = list(demonstrations.demonstrations)
  scratch = tasks.load(demonstrations.task, seed=0)
  scratch.physics.model.vis.global_.fovy = 42  # As in ours; it is 45 otherwise.
  for index in chosen:
    demonstration = demonstrations.demonstrations[index]
    seen = {
      pictures_lib.group(camera): np.stack(
        [*make(scratch, pictures.size, camera).render_states(demonstration.states)]
      )
      for camera in pictures.cameras
    }
    drawn[index] = frames.Seen(demonstration, seen)
  environments = evaluation.make_environments(demonstrations, reward, pictures=pictures)
  for environment in environments:
    _restyle(environment, make, pictures)
  bank = goals.GoalBank(drawn, imitator.policy.layout)
  act = controllers.follow(imitator.policy.actor(bank))
  return evaluation.run(environments, act, chosen)


def _restyle(
  environment: imitation.ImitationEnvironment,
  make: Callable[[Any, tuple[int, int], str], Style],
  pictures: pictures_lib.Pictures,
) -> None:
  stepped = environment.environment
  stepped.physics.model.vis.global_.fovy = 42
  for camera in pictures.cameras:
    # What draws is the environment's own affair, but for this question.
    renderers: dict[str, Any] = stepped._renderers
    renderers[pictures_lib.group(camera)] = make(stepped, pictures.size, camera)


def main(arguments: Arguments) -> pd.DataFrame:
  """Measures, writes and prints; returns the rows, one an episode.

  Raises:
    ValueError: the run's policy sees no pictures, or there is no such style.
    OSError: a file is missing.
  """
  unknown = sorted(set(arguments.styles) - set(STYLES))
  if unknown:
    raise ValueError(f'styles are {unknown}; expected some of {sorted(STYLES)}')
  path = arguments.run_dir
  imitator = loading.load(path)
  if imitator.policy.layout.pictures is None:
    raise ValueError(f'{path}: its policy sees no pictures; expected one that does')
  cameras = imitator.policy.layout.pictures.cameras
  if 'dm_control' in arguments.styles and any(
    pictures_lib.get(camera).in_hand for camera in cameras
  ):
    raise ValueError(
      f"{path}: its policy sees with {cameras}; expected styles without 'dm_control', "
      'whose camera no hand carries'
    )
  file = arguments.demonstrations or imitator.config.demonstrations
  demonstrations = storage.load(file)
  chosen = demonstrations.valid[: arguments.episodes]
  reward = run_description.reward(path)
  found: list[dict[str, Any]] = []
  for style in arguments.styles:
    episodes = follow(imitator, demonstrations, chosen, reward, style)
    found += [
      {
        'style': style,
        'run': os.path.basename(os.path.normpath(path)),
        'demonstration': demonstrations.demonstrations[e.demonstration].name,
        'reward': round(e.total, 4),
        'success': int(e.success),
      }
      for e in episodes
    ]
    solved = sum(e.success for e in episodes)
    low, high = intervals.proportion(solved, len(episodes))
    print(
      f'{style}: success {solved / len(episodes):.2f} ({low:.2f} to {high:.2f}), '
      f'reward {np.mean([e.total for e in episodes]):.3f}',
      flush=True,
    )
  common.write(arguments.output, found)
  return pd.DataFrame(found)


if __name__ == '__main__':
  try:
    main(tyro.cli(Arguments, description=__doc__))
  except (ValueError, OSError, RuntimeError) as e:
    sys.exit(f'error: {e}')
