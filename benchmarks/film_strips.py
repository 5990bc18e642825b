"""Draws skills that training never showed, demonstrated and imitated.

    python -m benchmarks.film_strips

Of each skill a held-out demonstration, and below it the policy that was trained without
the skill and is shown it for the first time: from finished runs that
`benchmarks.results` made of the experiments without some skills. Writes
results/skills.png.
"""

from collections.abc import Iterator
import dataclasses
import pathlib
import sys

import numpy as np
import tyro

from benchmarks import common
from benchmarks import experiments
from benchmarks import figures
from envs import rendering
from metamimic import config as config_lib
from metamimic import evaluation
from metamimic import loading
from metamimic import plotting
from metamimic import preparation
from metamimic import run_description
from metamimic import showing
from metamimic.demonstrations import goals

_FRAMES = 7
_SIZE = (120, 160)  # height, width of a picture


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Draws skills that training never showed, demonstrated and imitated."""

  runs: str = str(common.RUNS)
  """Folder of the runs."""
  output: str = f'{common.RESULTS}/skills.png'
  """Picture to write."""


def _strips(run: pathlib.Path, skill: str) -> Iterator[np.ndarray]:
  """Yields pictures of a held-out demonstration, and of the policy that follows it."""
  config = config_lib.load(str(run / 'config.json'))
  demonstrations = preparation.load_demonstrations(config)
  index = next(
    i for i in demonstrations.novel if demonstrations.demonstrations[i].skill == skill
  )
  policy = loading.load(str(run)).policy
  act = policy.actor(goals.GoalBank(demonstrations.demonstrations, policy.layout))
  reward = run_description.reward(str(run))
  (environment, *_) = evaluation.make_environments(demonstrations, reward)
  shown = demonstrations.demonstrations[index]
  for pictures in showing.pictures(
    environment, shown, lambda: environment.reset(index, step=0), act, _SIZE
  ):
    yield pictures[np.linspace(0, len(pictures) - 1, _FRAMES).astype(int)]


def main(arguments: Arguments) -> list[str]:
  """Draws and returns the skills that are in the picture.

  Raises:
    ValueError: there is no finished run without a skill.
  """
  rendering.choose_gl()
  names, strips = [], []
  for name, experiment in experiments.EXPERIMENTS.items():
    run = pathlib.Path(arguments.runs) / f'{name}-seed{experiment.seeds[0]}'
    if experiment.novel and (run / 'summary.json').exists():
      for skill in experiment.novel:
        names.append(skill)
        strips.append(np.stack([*_strips(run, skill)]))
  if not names:
    raise ValueError(
      f'{arguments.runs}: no finished run without a skill; expected some of '
      '`python -m benchmarks.results`'
    )
  plotting.save(figures.film_strips(names, strips), pathlib.Path(arguments.output))
  return names


if __name__ == '__main__':
  try:
    print(*main(tyro.cli(Arguments, description=__doc__)))
  except (ValueError, OSError, RuntimeError) as e:
    sys.exit(f'error: {e}')
