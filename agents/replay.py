"""All experience: what an item is, where it is kept, and how it is sampled.

An item is a transition of n steps, packed into one row of numbers by the actor: what
Reverb charges, of writing and even more of sampling, is by column and by row. The
learner unpacks it and sums the n rewards. Both rewards and discounts of a step,
imitation's and the task's, are there; the goal is there by reference.

The server stores each row once. A table is a way to sample: who wrote a row, and which
learner it is for. So one learner's pace is not another's, no kind of actor crowds the
other's experience out, and the task's learner has a fixed share of each in its batches.

With pictures an item also has those of its first state and of the one that it ends in,
all cameras' as one. They lie in chunks of their own, so that the server holds each
once, whatever number of items it is part of. Pictures of goals are not in replay: who
samples looks them up.

An unpacked batch is a dict of

  observation, next_observation: groups, (B, ...), and goal, (B, 2) int32; with pictures
    also pixels, (B, height, width, C), and goal_pixels, (B, K, height, width, C)
  action: (B, 9)
  reward, discount: {imitation, task}, (B, n)
  real: (B, n), 1 for a step that was taken; see `losses.n_step_return`
"""

from collections.abc import Callable, Collection, Mapping, Sequence
import time
from typing import Any

from acme import specs
import numpy as np
import reverb
from reverb import structured_writer
import tensorflow as tf
import tree

from agents import waiting
from envs import imitation
from envs import observations
from envs import pictures as pictures_lib
from envs import stepping
from metamimic import config as config_lib
from metamimic import policy

IMITATION = 'imitation'
"""What imitation actors wrote, for the learner of imitation."""
SHARED = 'imitation_for_task'
"""The same, for the learner of the task."""
TASK = 'task'
"""What task actors wrote."""
DEMONSTRATIONS = 'demonstrations'
"""Transitions of the demonstrators, with their actions; for D4PGfD alone."""


ROW, PICTURES, GOALS = 'row', 'pictures', 'goals'
"""Columns of an item with pictures: the row; uint8 (2, height, width, C); and what
`sampling` adds, uint8 (2, K, height, width, C)."""

GONE = (RuntimeError, reverb.errors.ReverbError)
"""What Reverb's calls raise, if they do anything, when their server is gone."""

_ANSWER = 2  # Seconds for the server to tell of itself; it takes milliseconds.


def spec(layout: observations.Layout) -> specs.EnvironmentSpec:
  """Returns the specs of an imitation environment with such observations."""
  return specs.EnvironmentSpec(
    observations=imitation.observation_spec(layout),
    actions=stepping.ACTION_SPEC,
    rewards=imitation.REWARD_SPEC,
    discounts=imitation.DISCOUNT_SPEC,
  )


class Codec:
  """Packs a transition into one row of float32, and unpacks rows.

  A row serves learners of several n: it holds the rewards of as many steps as the
  longest needs, and an observation for each n. The goal's integers are exact in float32
  up to 2**24. Pictures are not part of it.
  """

  def __init__(
    self,
    environment_spec: specs.EnvironmentSpec,
    horizons: Collection[int],
    pictures: pictures_lib.Pictures | None = None,
  ):
    """Lays out the row.

    Args:
      environment_spec: of the environment.
      horizons: each n, in steps, that a learner will unpack.
      pictures: those that the environment has; None: none.
    """
    self.horizons = tuple(sorted(set(horizons)))
    """Each n once, ascending."""
    self.n = self.horizons[-1]
    """Steps of the longest transition."""
    observation = {
      group: spec
      for group, spec in environment_spec.observations.items()
      if group not in (pictures.spec() if pictures else ())
    }
    self.pictures = pictures
    """What pictures an item has; None: none."""
    self._groups = sorted(observation)
    self.rewards = sorted(environment_spec.rewards)
    """Names of the rewards and discounts, in the row's order."""
    steps = specs.Array((self.n,), np.float32)
    # Flattened in the order of sorted keys, on which `pack` relies.
    self._structure = {
      'action': environment_spec.actions,
      'discount': dict.fromkeys(self.rewards, steps),
      'next_observation': [observation for _ in self.horizons],
      'observation': observation,
      'real': steps,
      'reward': dict.fromkeys(self.rewards, steps),
    }
    self._specs = tree.flatten(self._structure)
    ends = np.cumsum([int(np.prod(s.shape)) for s in self._specs])
    self._slices = [
      slice(end - int(np.prod(s.shape)), end)
      for s, end in zip(self._specs, ends, strict=True)
    ]
    self.size = int(ends[-1])
    """Numbers in a row."""

  @property
  def signature(self) -> Any:
    """Of an item: a row, or with pictures a dict of it and two of these."""
    row = tf.TensorSpec([self.size], tf.float32)
    if self.pictures is None:
      return row
    return {ROW: row, PICTURES: tf.TensorSpec([2, *self.pictures.shape], tf.uint8)}

  def goals(self, rows: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the references to goals at the start and at the end of transitions.

    Args:
      rows: (B, size).
      n: steps, one of `horizons`.

    Returns:
      Two of int32, (B, 2).
    """
    slices = tree.unflatten_as(self._structure, self._slices)
    ends = slices['next_observation'][self.horizons.index(n)], slices['observation']
    end, start = (rows[:, part[imitation.GOAL]].astype(np.int32) for part in ends)
    return start, end

  def flatten(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns an observation as `pack` wants it."""
    return np.concatenate([observation[group] for group in self._groups])

  def pack(
    self,
    observation: np.ndarray,
    action: np.ndarray,
    rewards: Sequence[Sequence[float]],
    discounts: Sequence[Sequence[float]],
    next_observations: Sequence[np.ndarray],
  ) -> np.ndarray:
    """Returns a transition as a row, (size,) float32.

    Args:
      observation: of `flatten`.
      action: what was done.
      rewards: of each step, at most n, in the order of `rewards`.
      discounts: likewise.
      next_observations: of `flatten`, for each of `horizons`.
    """
    missing = (0.0,) * (self.n - len(rewards))
    # Not an array for each list: for so few numbers that would take most of the time.
    real_and_rewards = [1.0] * len(rewards) + [*missing]
    all_discounts: list[float] = []
    for i in range(len(self.rewards)):
      all_discounts += [step[i] for step in discounts]
      all_discounts += missing
      real_and_rewards += [step[i] for step in rewards]
      real_and_rewards += missing
    row = np.empty(self.size, np.float32)
    parts: Any = (
      action,
      all_discounts,
      *next_observations,
      observation,
      real_and_rewards,
    )
    return np.concatenate(parts, out=row, casting='unsafe')

  def unpack(self, items: Any, n: int) -> dict[str, Any]:
    """Returns the batch of transitions that is described above.

    Args:
      items: of `signature`, (B, ...) each; with pictures, `GOALS` beside them.
      n: its steps, one of `horizons`.
    """
    rows = items if self.pictures is None else items[ROW]
    batch = tree.unflatten_as(
      self._structure,
      [
        tf.cast(tf.reshape(rows[:, part], [-1, *spec.shape]), spec.dtype)
        for part, spec in zip(self._slices, self._specs, strict=True)
      ],
    )
    following = batch.pop('next_observation')[self.horizons.index(n)]
    for name in ('discount', 'real', 'reward'):
      batch[name] = tree.map_structure(lambda steps: steps[:, :n], batch[name])
    batch['next_observation'] = following
    if self.pictures is not None:
      for i, name in enumerate(('observation', 'next_observation')):
        batch[name] = {**batch[name], policy.PIXELS: items[PICTURES][:, i]}
        if GOALS in items:
          batch[name][policy.GOAL_PIXELS] = items[GOALS][:, i]
    return batch


def codec(layout: observations.Layout, config: config_lib.Config) -> Codec:
  """Returns the codec of a run's rows."""
  horizons = [config.d4pg_of(name).n_step for name in config.learners]
  return Codec(spec(layout), horizons, layout.pictures)


def written_by(config: config_lib.Config, actor: str) -> tuple[str, ...]:
  """Returns the tables in which an actor's transitions are found.

  Args:
    config: of the run.
    actor: what it acts for; see `config.Config.actors`.
  """
  if actor == config_lib.TASK:
    return (TASK,)
  beside = config_lib.TASK in config.learners
  shared = beside and SHARED in sources(config, config_lib.TASK)
  return (IMITATION, SHARED) if shared else (IMITATION,)


def learner_of(table: str) -> str:
  """Returns the learner that a table of experience is for."""
  return config_lib.IMITATION if table == IMITATION else config_lib.TASK


def sources(config: config_lib.Config, learner: str) -> dict[str, int]:
  """Returns how much of each batch of a learner comes from which table."""
  size = config.d4pg_of(learner).batch_size
  if learner == config_lib.IMITATION:
    return {IMITATION: size}
  other = DEMONSTRATIONS if config.algorithm == 'd4pgfd' else SHARED
  parts = {other: config.borrowed, TASK: size - config.borrowed}
  return {name: k for name, k in parts.items() if k}


def tables(
  codec_: Codec, config: config_lib.Config, demonstrated: int
) -> list[reverb.Table]:
  """Returns the tables of all experience.

  Args:
    codec_: that packs the rows.
    config: sizes, and how often an item is sampled.
    demonstrated: transitions that the demonstrations have, if they are kept.
  """
  made = []
  for learner in config.learners:
    for name, k in sources(config, learner).items():
      if name == SHARED:
        # Its writers' pace is that of the imitation learner.
        limiter = reverb.rate_limiters.MinSize(config.task.start_after)
        made.append(_table(name, codec_, config.replay.max_size, limiter))
      elif name == DEMONSTRATIONS:
        limiter = reverb.rate_limiters.MinSize(demonstrated)
        made.append(_table(name, codec_, demonstrated, limiter))
      else:
        replay = config.replay_of(learner)
        limiter = _pace(replay, config.d4pg_of(learner), k)
        made.append(_table(name, codec_, replay.max_size, limiter))
  return made


def _pace(
  replay: config_lib.ReplayConfig, d4pg: config_lib.D4PGConfig, k: int
) -> reverb.rate_limiters.RateLimiter:
  """Returns what makes actors and learner wait for each other.

  Args:
    replay: how often an item is sampled.
    d4pg: sizes.
    k: how much of a batch is sampled here.
  """
  samples_per_insert = replay.samples_per_insert * k / d4pg.batch_size
  # Wide enough that neither side waits for the other's batch or episode: a learner
  # takes a whole call's samples at once.
  # Reverb wants what one insertion allows, at least.
  buffer = max(
    4 * k * d4pg.steps_per_call,
    0.1 * samples_per_insert * replay.min_size,
    samples_per_insert,
    1.0,
  )
  return reverb.rate_limiters.SampleToInsertRatio(
    samples_per_insert, replay.min_size, buffer
  )


def _table(
  name: str, codec_: Codec, size: int, limiter: reverb.rate_limiters.RateLimiter
) -> reverb.Table:
  return reverb.Table(
    name,
    sampler=reverb.selectors.Uniform(),
    remover=reverb.selectors.Fifo(),
    max_size=size,
    rate_limiter=limiter,
    signature=codec_.signature,
  )


def writer_config(codec_: Codec, table: str) -> Any:
  """The pattern that makes an item of each row in a table."""
  row = structured_writer.create_reference_step(np.zeros(codec_.size, np.float32))
  return structured_writer.create_config(row[-1], table)


def info(client: reverb.Client) -> Mapping[str, Any] | None:
  """Returns what the server tells of its tables; None: it does not answer now."""
  try:
    return client.server_info(timeout=_ANSWER)
  except GONE:
    return None


def wait_for_info(
  client: reverb.Client, should_stop: Callable[[], bool]
) -> Mapping[str, Any]:
  """Returns what the server tells of its tables, once it answers.

  Raises:
    waiting.Stopped: `should_stop` said so meanwhile.
  """
  reminder = waiting.Reminder()
  while (found := info(client)) is None:
    if should_stop():
      raise waiting.Stopped()
    reminder.remind(lambda: 'the replay server to answer')
    time.sleep(0.2)
  return found


def written(info_: Mapping[str, Any], config: config_lib.Config) -> dict[str, int]:
  """Returns how many transitions each kind of actor has written.

  What a server lost when it died is not among them.

  Args:
    info_: what the server tells of its tables.
    config: of the run.
  """
  return {
    actor: info_[table].rate_limiter_info.insert_stats.completed
    for actor in dict.fromkeys(config.actors)
    for table in written_by(config, actor)[:1]
  }


def describe(client: reverb.Client, table: str) -> str:
  """Returns in words for what one waits who wants to sample from a table."""
  found = info(client)
  if found is None:
    return 'the replay server, which does not answer'
  rates = found[table].rate_limiter_info
  return (
    f'{table}, which holds {found[table].current_size} transitions; sampling starts '
    f'at {rates.min_size_to_sample}; {rates.insert_stats.completed} inserted, '
    f'{rates.sample_stats.completed} sampled'
  )


def wait_for(
  client: reverb.Client, table: str, size: int, should_stop: Callable[[], bool]
) -> bool:
  """Waits until a table has been given so many transitions; False: was stopped."""
  reminder = waiting.Reminder()
  while not should_stop():
    found = info(client)
    if found and found[table].rate_limiter_info.insert_stats.completed >= size:
      return True
    reminder.remind(lambda: f'{size} transitions in {describe(client, table)}')
    time.sleep(0.5)
  return False
