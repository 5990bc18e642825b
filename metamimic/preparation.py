"""What is checked before any process of a run starts, and what they must agree on.

Without TensorFlow, which takes seconds to import: a mistake is told at once.
"""

from collections.abc import Mapping
import json
import os
import time
from typing import Any

from envs import observations
from envs import rendering
from envs import reward_library
from envs import rewards
from envs import tasks
from metamimic import config as config_lib
from metamimic import validation
from metamimic.demonstrations import storage

_DESCRIPTION = 'run.json'


def prepare(config: config_lib.Config, run_dir: str | None = None) -> None:
  """Checks all that a run needs before any process starts.

  Args:
    config: of the run.
    run_dir: if given, what the nodes must agree on (the task, the reward and its
      calibrated temperatures) is written there.

  Raises:
    ValueError: a setting, the demonstrations or the reward cannot be used; the message
      names the file or the field and what was expected.
    RuntimeError: videos are wanted and there is no GL library to draw them.
  """
  validation.validate(config)
  if config.sees_actions and not storage.has_actions(config.demonstrations):
    raise ValueError(
      f'{config.demonstrations}: has no actions; the algorithm {config.algorithm} '
      'needs them'
    )
  demonstrations = storage.load(config.demonstrations, with_actions=config.sees_actions)
  if not demonstrations.train or not demonstrations.valid:
    raise ValueError(
      f'{config.demonstrations}: {len(demonstrations.train)} training and '
      f'{len(demonstrations.valid)} held-out demonstrations; expected some of each'
    )
  name = _reward(config, demonstrations.task)
  layout = observations.Layout(tasks.get(demonstrations.task).objects)
  reward = rewards.load(name, layout)
  train = [demonstrations.demonstrations[i].observations for i in demonstrations.train]
  if isinstance(reward, rewards.Reward):
    reward = rewards.calibrate(reward, train)
  first = {group: values[0] for group, values in train[0].items()}
  last = {group: values[-1] for group, values in train[0].items()}
  terms = rewards.check(name, reward, first, last)
  if config.evaluation.videos:
    rendering.choose_gl()
  if run_dir is not None:
    _agree(
      run_dir,
      {
        'task': demonstrations.task,
        'reward': name,
        'terms': terms,
        'temperatures': rewards.temperatures(reward),
      },
    )


def _reward(config: config_lib.Config, task: str) -> str:
  if config.imitation.reward:
    return config.imitation.reward
  if not config.imitation.relative:
    return reward_library.DEFAULTS[task]
  if task not in reward_library.RELATIVE:
    raise ValueError(
      f'imitation.relative is set, but there is no such reward for {task!r}; expected '
      f'imitation.reward, or one of the tasks {sorted(reward_library.RELATIVE)}'
    )
  return reward_library.RELATIVE[task]


def _agree(run_dir: str, found: dict[str, Any]) -> None:
  """Writes `run.json`; that of a resumed run must say the same."""
  try:
    before = description(run_dir)
  except FileNotFoundError:
    describe(run_dir, {**found, 'started': time.time()})
    return
  for key, value in found.items():
    if before[key] != value:
      raise ValueError(
        f'{run_dir}/run.json: the run began with {key} {before[key]}; now it is '
        f'{value}. The reward has changed: begin a new run.'
      )


def describe(run_dir: str, description: Mapping[str, Any]) -> None:
  """Writes what `policy.load` needs beside the configuration: at least `task`."""
  path = os.path.join(run_dir, _DESCRIPTION)
  with open(path + '.tmp', 'w') as f:
    json.dump(description, f, indent=2)
  os.replace(path + '.tmp', path)


def description(run_dir: str) -> dict[str, Any]:
  """Reads what `describe` wrote.

  Raises:
    FileNotFoundError: `run_dir` is no run.
  """
  path = os.path.join(run_dir, _DESCRIPTION)
  if not os.path.exists(path):
    raise FileNotFoundError(f'{path} is missing: {run_dir} is not a run directory')
  with open(path) as f:
    return json.load(f)
