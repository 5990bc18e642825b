"""What is checked before any process of a run starts.

What came of it, and all of them must agree on, goes to `run_description`.

Without TensorFlow, which takes seconds to import: a mistake is told at once.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from importlib import metadata
import sys
from typing import Any

from envs import observations
from envs import rendering
from envs import reward_library
from envs import rewards
from envs import tasks
from metamimic import config as config_lib
from metamimic import run_description
from metamimic import validation
from metamimic.demonstrations import frames
from metamimic.demonstrations import storage
from metamimic.demonstrations import types

_CALIBRATED_PICTURES = 50  # Demonstrations whose pictures say enough of their scale.


def prepare(config: config_lib.Config, run_dir: str | None = None) -> None:
  """Checks all that a run needs before any process starts.

  Args:
    config: of the run.
    run_dir: if given, what the nodes must agree on (the task, the reward, its
      calibrated temperatures and those of training) is written there.

  Raises:
    OSError: a file is missing, or pictures cannot be written.
    ValueError: a setting, the demonstrations or the reward cannot be used; the message
      names the file or the field and what was expected.
    RuntimeError: videos or pictures are wanted and there is no GL library to draw them.
  """
  validation.validate(config)
  if config.gpu:
    _check_wheel()
  demonstrations = _usable(config)
  task = demonstrations.task
  name, measured_by = _reward_names(config, task)
  if config.evaluation.videos or config.pictures:
    rendering.choose_gl()
  drawn: dict[str, str] = {}
  if config.needs_frames:
    assert config.pictures is not None
    # Drawing takes minutes: what it is for must be good.
    rewards.load(name, actor_layout(config, task))
    folder = config.pixels.frames or f'{config.demonstrations}.frames'
    drawn = frames.draw(demonstrations.demonstrations, config.pictures, folder)
  seen = references(demonstrations, drawn)
  train = [seen[i].observations for i in demonstrations.train]
  training, _ = _calibrated(
    name, actor_layout(config, task), train, config.imitation.temperature_factor
  )
  # Of the same demonstrations, as they would be without pictures.
  measured, terms = _calibrated(measured_by, tasks.get(task).layout, train, 1.0)
  if run_dir is not None:
    run_description.agree(
      run_dir,
      {
        'task': task,
        'reward': measured_by,
        'terms': terms,
        'temperatures': rewards.temperatures(measured),
        'training_reward': name,
        'training_temperatures': rewards.temperatures(training),
        'declaration': rewards.declaration(measured),
        'training_declaration': rewards.declaration(training),
        'frames': drawn,
      },
    )


def _usable(config: config_lib.Config) -> types.DemonstrationSet:
  """Returns a run's demonstrations, which are all that the run needs of them.

  Raises:
    OSError: the file is missing.
    ValueError: they are not.
  """
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
  shown = [demonstrations.demonstrations[i] for i in demonstrations.train]
  if config.algorithm == 'd4pgfd' and not any(d.rewards.any() for d in shown):
    raise ValueError(
      f'{config.demonstrations}: no training demonstration has a reward; d4pgfd needs '
      'some that succeed'
    )
  if config.without_skills and not demonstrations.novel:
    raise ValueError(
      f'without_skills: {config.demonstrations}: no held-out demonstration of '
      f'{config.without_skills}; expected some to measure'
    )
  _check_states(config.demonstrations, demonstrations)
  skills = tuple(tasks.get(demonstrations.task).skills)
  if len(skills) > 1 and not all(config.follows(name) for name in config.learners):
    raise ValueError(
      f'{config.demonstrations}: {demonstrations.task} has the skills {skills}, and a '
      'policy that is shown nothing could not know which; expected a task with one, or '
      'no such policy (task.learn, or the algorithms d4pg, d4pgfd, bc_no_goal)'
    )
  return demonstrations


def seen_layout(config: config_lib.Config, task: str) -> observations.Layout:
  """Returns what the policies of a run see.

  With pictures there is no object's pose among it.

  Args:
    config: of the run.
    task: its name.
  """
  if config.pictures is None:
    return tasks.get(task).layout
  return observations.Layout((), None if config.pixels.blind else config.pictures)


def actor_layout(config: config_lib.Config, task: str) -> observations.Layout:
  """Returns what the reward of a run's actors is from; arguments as above.

  Without such actors that is what evaluations are from.
  """
  if config.pictures is None or config_lib.IMITATION not in config.learners:
    return tasks.get(task).layout
  return observations.Layout((), config.pictures)


def references(
  demonstrations: types.DemonstrationSet, drawn: Mapping[str, str]
) -> Sequence[types.Demonstration] | Sequence[frames.Seen]:
  """Returns what can be followed.

  Args:
    demonstrations: of a run.
    drawn: their pictures, as in run.json; empty: there are none.

  Raises:
    OSError: a file is gone.
    ValueError: a file is damaged.
  """
  if not drawn:
    return demonstrations.demonstrations
  return frames.load(demonstrations.demonstrations, drawn)


def _check_states(path: str, demonstrations: types.DemonstrationSet) -> None:
  """Raises a ValueError if their states are not of this version of the task."""
  first = demonstrations.demonstrations[0]
  environment = tasks.load(demonstrations.task, seed=0)
  try:
    environment.set_state(first.states[0])
  except ValueError as e:
    raise ValueError(f'{path}: {first.name}: states: {e}') from None
  finally:
    environment.close()


def _check_wheel() -> None:
  """Raises a ValueError if TensorFlow is here for processors only."""
  try:
    metadata.version('tensorflow')
  except metadata.PackageNotFoundError:
    version = metadata.version('tensorflow-cpu')
    raise ValueError(
      f'gpu: {sys.prefix} has tensorflow-cpu {version} alone; expected tensorflow too: '
      f'{sys.executable} -m uv pip install --no-deps tensorflow=={version}'
    ) from None


def _reward_names(config: config_lib.Config, task: str) -> tuple[str, str]:
  """Returns the reward that actors are given, and the one of evaluations."""
  given, relative = config.imitation.reward, config.imitation.relative
  if config.pictures and config_lib.IMITATION in config.learners:
    names = reward_library.PIXELS_RELATIVE if relative else reward_library.PIXELS
    # What is learned from pictures is measured as everything else is.
    measured = _default(task)
    if relative:
      measured = reward_library.RELATIVE.get(task, measured)
    return given or _special('pixels.cameras', task, names), measured
  if relative and not given:
    given = _special('imitation.relative', task, reward_library.RELATIVE)
  name = given or _default(task)
  return name, name


def _default(task: str) -> str:
  if task not in reward_library.DEFAULTS:
    raise ValueError(
      f'no reward is known for {task!r}; expected imitation.reward, or a task of '
      f'{sorted(reward_library.DEFAULTS)}'
    )
  return reward_library.DEFAULTS[task]


def _special(setting: str, task: str, names: Mapping[str, str]) -> str:
  if task not in names:
    raise ValueError(
      f'{setting} is set, but there is no such reward for {task!r}; expected '
      f'imitation.reward, or one of the tasks {sorted(names)}'
    )
  return names[task]


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
  layout: observations.Layout,
  train: Sequence[Mapping[str, Any]],
  factor: float,
) -> tuple[rewards.RewardFunction, list[str]]:
  """Returns a reward with its temperatures, and the names of its terms.

  Args:
    name: of the reward.
    layout: of what it is from.
    train: observations of the training demonstrations.
    factor: on temperatures that are calibrated.
  """
  reward = rewards.load(name, layout)
  declared = reward.terms if isinstance(reward, rewards.Reward) else ()
  free = {term.name for term in declared if term.temperature is None}
  if factor != 1 and not free:
    raise ValueError(
      f'imitation.temperature_factor is {factor}; expected 1 with the reward {name}, '
      'which has no calibrated temperatures'
    )
  if isinstance(reward, rewards.Reward):
    most = _CALIBRATED_PICTURES if layout.pictures else len(train)
    measured = rewards.calibrate(reward, train[:most])
    taus = rewards.temperatures(measured)
    factors = {t.name: factor if t.name in free else 1 for t in measured.terms}
    terms = [
      dataclasses.replace(t, temperature=taus[t.name] * factors[t.name])
      for t in measured.terms
    ]
    reward = measured.replaced(terms, measured.layout)
  return reward, rewards.check(name, reward, train[0])
