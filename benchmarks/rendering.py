"""Pictures per CPU second of the observations here, and of dm_control's own.

    python -m benchmarks.rendering

Both are of 84 × 84 pixels, of the same states of episodes of random actions. Ours are
anti-aliased; `fine` are ours with meshes instead of hulls, studs and a textured floor,
as in videos. dm_control's are what its tasks observe from pixels: `physics.render` at
its default quality. One setting is the same for all, since a process can have but one:
LP_NUM_THREADS=0, which makes dm_control's cheaper than they are by themselves. Only
drawing counts, no physics: of ours also the kinematics, of dm_control's not.

Each row also says how much the arm's pictures differ from dm_control's from the same
camera: the root of the mean square over pixels, of full scale 1, to which the floor,
which has another shade here, adds most.
The success of one policy under both: benchmarks.picture_styles.
"""

import dataclasses
import functools
import sys
import time
from typing import Any

import numpy as np
import tyro

from benchmarks import common
from envs import pictures as pictures_lib
from envs import rendering
from envs import simulator
from envs import stepping
from envs import tasks

OURS, FINE, DM_CONTROL = 'ours', 'fine', 'dm_control'
_SIZE = (84, 84)
_CAMERA, _THEIR_CAMERA = 'front', 'front_close'


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Measures pictures per CPU second."""

  task: str = 'lift_brick'
  """What is drawn."""
  rounds: int = 5
  """Turns of each arm."""
  states: int = 50
  """Pictures in a turn."""
  output: str = f'{common.RESULTS}/benchmark_rendering.csv'
  """File of the results."""


def collect(environment: stepping.ManipulationEnvironment, count: int) -> np.ndarray:
  """Returns states of episodes of random actions, (count, S).

  Args:
    environment: where to act.
    count: how many; a tenth are starts of episodes.
  """
  rng = np.random.default_rng(0)
  states = []
  for i in range(count):
    if i % 10 == 0:
      environment.reset()
      action = rng.uniform(-1, 1, 9)
    states.append(environment.get_state())
    environment.advance(action)
  return np.stack(states)


def dm_control(
  environment: stepping.ManipulationEnvironment, states: np.ndarray
) -> tuple[float, float]:
  """Draws as dm_control's tasks do; to go to the states is free.

  Args:
    environment: what is drawn.
    states: to draw.

  Returns:
    How many pictures, and the CPU seconds that they took.
  """
  seconds = 0.0
  for state in states:
    environment.set_state(state)
    begun = time.process_time()
    environment.physics.render(*_SIZE, camera_id=_THEIR_CAMERA)
    seconds += time.process_time() - begun
  return len(states), seconds


def ours(renderer: rendering.Renderer, states: np.ndarray) -> float:
  """Draws with a renderer; returns how many pictures."""
  return float(len([*renderer.render_states(states)]))


def from_our_camera(environment: stepping.ManipulationEnvironment) -> np.ndarray:
  """Returns dm_control's picture of the present state from the camera of ours."""
  view = pictures_lib.get(_CAMERA)
  camera = simulator.engine.MovableCamera(environment.physics, *_SIZE)
  camera.set_pose(view.target, view.distance, view.azimuth, view.elevation)
  return camera.render()


def difference(
  environment: stepping.ManipulationEnvironment,
  states: np.ndarray,
  renderer: rendering.Renderer,
) -> float:
  """Returns the rms difference of pictures from dm_control's, of full scale 1.

  Args:
    environment: what is drawn.
    states: to draw.
    renderer: of the environment.
  """
  squares = []
  for state in states:
    environment.set_state(state)
    theirs = from_our_camera(environment).astype(float)
    squares.append(np.mean(np.square((renderer.render() - theirs) / 255)))
  return float(np.sqrt(np.mean(squares)))


def main(arguments: Arguments) -> int:
  """Measures, writes and prints; returns the exit status."""
  environment = tasks.load(arguments.task, seed=0)
  environment.physics.model.vis.global_.fovy = 42  # As ours; it is 45 otherwise.
  renderers = {
    OURS: rendering.Renderer(environment, _SIZE, _CAMERA, coarse=True),
    FINE: rendering.Renderer(environment, _SIZE, _CAMERA),
  }
  states = collect(environment, arguments.states)
  measurements = common.measure(
    {
      **{
        name: common.timed(functools.partial(ours, renderer, states))
        for name, renderer in renderers.items()
      },
      DM_CONTROL: functools.partial(dm_control, environment, states),
    },
    arguments.rounds,
  )
  differences: dict[str, Any] = {
    name: f'{difference(environment, states[::10], renderer):.3f}'
    for name, renderer in renderers.items()
  }
  rows = common.rows(measurements)
  common.write(
    arguments.output,
    [
      row
      | {'difference': differences.get(row['arm'], ''), 'device': rendering.device()}
      for row in rows
    ],
  )
  for name, rate in common.medians(measurements).items():
    print(f'{name}: {rate:.0f} pictures per CPU second, drawn by {rendering.device()}')
  return common.report(common.compare(measurements, 'rendering'))


if __name__ == '__main__':
  sys.exit(main(tyro.cli(Arguments, description=__doc__)))
