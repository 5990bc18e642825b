"""What is checked before any process of a run starts, and what they must agree on.

Without TensorFlow, which takes seconds to import: a mistake is told at once.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import os
import time
from typing import Any

from envs import observations
from envs import rendering
from envs import reward_library
from envs import rewards
from envs import tasks
from metamimic import config as config_lib
from metamimic import files
from metamimic import validation
from metamimic.demonstrations import storage
from metamimic.demonstrations import types

_DESCRIPTION = 'run.json'


def _are_texts(value: object) -> bool:
  return isinstance(value, list) and all(isinstance(text, str) for text in value)


_FIELDS: Mapping[str, tuple[Callable[[object], bool], str]] = {
  'task': (lambda v: isinstance(v, str) and v in tasks.TASKS, 'the name of a task'),
  'reward': (lambda v: isinstance(v, str), 'package.module:attribute'),
  'terms': (_are_texts, 'a list of names'),
  'temperatures': (files.are_numbers, 'numbers by term'),
  'training_temperatures': (files.are_numbers, 'numbers by term'),
  'started': (files.is_number, 'seconds'),
}
"""Of run.json: what is good, and how to call it."""


def prepare(config: config_lib.Config, run_dir: str | None = None) -> None:
  """Checks all that a run needs before any process starts.

  Args:
    config: of the run.
    run_dir: if given, what the nodes must agree on (the task, the reward, its
      calibrated temperatures and those of training) is written there.

  Raises:
    ValueError: a setting, the demonstrations or the reward cannot be used; the message
      names the file or the field and what was expected.
    RuntimeError: videos are wanted and there is no GL library to draw them.
  """
  validation.validate(config)
  # Once, and here: nodes have threads, and are not to be forked.
  storage.vet(config.demonstrations)
  if config.sees_actions and not storage.has_actions(
    config.demonstrations, vetted=True
  ):
    raise ValueError(
      f'{config.demonstrations}: has no actions; the algorithm {config.algorithm} '
      'needs them'
    )
  demonstrations = load_demonstrations(config, config.sees_actions, vetted=True)
  if not demonstrations.train or not demonstrations.valid:
    raise ValueError(
      f'{config.demonstrations}: {len(demonstrations.train)} training and '
      f'{len(demonstrations.valid)} held-out demonstrations; expected some of each'
    )
  if config.without_skills and not demonstrations.novel:
    raise ValueError(
      f'without_skills: {config.demonstrations}: no held-out demonstration of '
      f'{config.without_skills}; expected some to measure'
    )
  skills = tuple(tasks.get(demonstrations.task).skills)
  if len(skills) > 1 and not all(config.follows(name) for name in config.learners):
    raise ValueError(
      f'{config.demonstrations}: {demonstrations.task} has the skills {skills}, and a '
      'policy that is shown nothing could not know which; expected a task with one, or '
      'no such policy (task.learn, or the algorithms d4pg, d4pgfd, bc_no_goal)'
    )
  name = _reward_name(config, demonstrations.task)
  layout = observations.Layout(tasks.get(demonstrations.task).objects)
  reward = rewards.load(name, layout)
  train = [demonstrations.demonstrations[i].observations for i in demonstrations.train]
  training, reward = _calibrated(name, reward, train, config)
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
        'training_temperatures': rewards.temperatures(training),
      },
    )


def _reward_name(config: config_lib.Config, task: str) -> str:
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


def load_demonstrations(
  config: config_lib.Config, with_actions: bool = False, vetted: bool = False
) -> types.DemonstrationSet:
  """Returns the demonstrations that a run has, and no others.

  Args:
    config: of the run.
    with_actions: as for `storage.load`.
    vetted: likewise; `prepare` vets a run's file for its nodes.

  Returns:
    The file's, without training demonstrations of `without_skills`, and of the others
    the first `train_demonstrations`.

  Raises:
    OSError: as `storage.load` does.
    ValueError: likewise, or the file has fewer, or shows no such skill.
  """
  found = storage.load(config.demonstrations, with_actions=with_actions, vetted=vetted)
  if config.without_skills:
    try:
      found = found.without(config.without_skills)
    except ValueError as e:
      raise ValueError(f'without_skills: {config.demonstrations}: {e}') from None
  if config.train_demonstrations:
    try:
      found = found.with_fewer(config.train_demonstrations)
    except ValueError as e:
      raise ValueError(f'train_demonstrations: {config.demonstrations}: {e}') from None
  return found


def _calibrated(
  name: str,
  reward: rewards.RewardFunction,
  train: Sequence[Mapping[str, Any]],
  config: config_lib.Config,
) -> tuple[rewards.RewardFunction, rewards.RewardFunction]:
  """Returns the reward that actors are given, and the one of evaluations."""
  factor = config.imitation.temperature_factor
  declared = reward.terms if isinstance(reward, rewards.Reward) else ()
  free = {term.name for term in declared if term.temperature is None}
  if factor != 1 and not free:
    raise ValueError(
      f'imitation.temperature_factor is {factor}; expected 1 with the reward {name}, '
      'which has no calibrated temperatures'
    )
  if not isinstance(reward, rewards.Reward):
    return reward, reward
  measured = rewards.calibrate(reward, train)
  taus = rewards.temperatures(measured)
  terms = [
    dataclasses.replace(t, temperature=taus[t.name] * (factor if t.name in free else 1))
    for t in measured.terms
  ]
  return rewards.Reward(terms, measured.layout), measured


def _agree(run_dir: str, found: dict[str, Any]) -> None:
  """Writes `run.json`; that of a resumed run must say the same."""
  try:
    before = description(run_dir)
  except FileNotFoundError:
    describe(run_dir, {**found, 'started': time.time()})
    return
  for key, value in found.items():
    if before.get(key) != value:
      raise ValueError(
        f'{run_dir}/run.json: the run began with {key} {before.get(key)}; now it is '
        f'{value}. The reward has changed: begin a new run.'
      )


def describe(run_dir: str, description: Mapping[str, Any]) -> None:
  """Writes what `policy.load` needs beside the configuration: at least `task`."""
  files.write_json(os.path.join(run_dir, _DESCRIPTION), description)


def description(run_dir: str) -> dict[str, Any]:
  """Reads what `describe` wrote.

  Raises:
    FileNotFoundError: `run_dir` is no run.
    ValueError: the file is damaged; the message names it, the field and what was
      expected.
  """
  path = os.path.join(run_dir, _DESCRIPTION)
  try:
    found = files.read_json(path)
  except FileNotFoundError as e:
    raise FileNotFoundError(
      f'{path} is missing: {run_dir} is not a run directory'
    ) from e
  for name, (is_good, expected) in _FIELDS.items():
    # Only a run that has been prepared has all of them.
    if (name in found or name == 'task') and not is_good(found.get(name)):
      raise ValueError(
        f'{path}: {name} is {found.get(name)!r:.100}; expected {expected}'
      )
  return found


def reward(run_dir: str, temperatures: str = 'temperatures') -> rewards.RewardFunction:
  """Returns the reward that a run was prepared with, and imports it.

  Args:
    run_dir: a run directory.
    temperatures: `temperatures` for the one of evaluations, `training_temperatures` for
      the one that actors are given.

  Raises:
    FileNotFoundError: `run_dir` is no run.
    ValueError: the reward cannot be imported any more, or the run has none.
  """
  about = description(run_dir)
  for name in ('reward', 'terms', temperatures):
    if name not in about:
      raise ValueError(f'{run_dir}/{_DESCRIPTION}: no {name}; expected that of a run')
  layout = observations.Layout(tasks.get(about['task']).objects)
  return rewards.load(about['reward'], layout, about[temperatures])
