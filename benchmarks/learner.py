"""Updates per CPU second of our D4PG learner and of Acme's, side by side.

    python -m benchmarks.learner

Both have the same networks, batch size and transitions, and sample from a Reverb server
in another process, each in its normal way. Ours computes the networks' features from
observations and goals that it looks up; Acme's finds them in replay, as its environment
would give them. The rows `fixed` have the same batch again and again instead.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import itertools
import os
from typing import Any

from acme import datasets
from acme import specs
from acme.agents.tf.d4pg import learning as acme_learning
from acme.utils import counting
from acme.utils import loggers
import dm_env
import numpy as np
import reverb
import sonnet as snt
import tensorflow as tf
import tyro

from agents import adders
from agents import replay
from agents import sampling
from agents.d4pg import learning
from benchmarks import acme_replay
from benchmarks import common
from envs import imitation
from envs import observations
from envs import tasks
from metamimic import config as config_lib
from metamimic import policy as policy_lib
from metamimic import presets
from metamimic.demonstrations import goals
from metamimic.demonstrations import storage
from metamimic.demonstrations import types
from metamimic.networks import critics
from metamimic.networks import policies

OURS, ACME = 'ours', 'acme'
_FIXED = ' fixed'
_ACME_TARGET_PERIOD = 100  # Acme's default.
_ACME_PREFETCH = 4  # Acme's default.
_PATIENCE = 60.0  # s for a batch from a table that is full.


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Measures updates per CPU second."""

  demonstrations: str = 'data/lift_brick.hdf5'
  """File of demonstrations; replay is filled with what they did."""
  episodes: int = 50
  """Demonstrations that replay is filled with."""
  rounds: int = 5
  """Turns of each learner."""
  updates: int = 200
  """Learner steps in a turn."""
  output: str = f'{common.RESULTS}/benchmark_learner.csv'
  """File of the results."""


class _Problem:
  """What both learners learn: demonstrations as if they were experience."""

  def __init__(self, config: config_lib.Config):
    self.config = config
    self.demonstrations: types.DemonstrationSet = storage.load(config.demonstrations)
    task = self.demonstrations.task
    self.layout = tasks.get(task).layout
    self.policy = policy_lib.create(
      config_lib.IMITATION, self.layout, config, self.demonstrations
    )
    self.bank = goals.GoalBank(self.demonstrations.demonstrations, self.layout)

  @property
  def spec(self) -> specs.EnvironmentSpec:
    """Of the environment."""
    return replay.spec(self.layout)

  @property
  def codec(self) -> replay.Codec:
    """Of our table."""
    return replay.codec(self.layout, self.config)

  def episodes(self, number: int) -> Iterator[list[dm_env.TimeStep]]:
    """Yields the timesteps of the first demonstrations, with made-up rewards."""
    rng = np.random.default_rng(0)
    for index in self.demonstrations.train[:number]:
      frames = self.demonstrations.demonstrations[index].observations
      last = len(frames[observations.BODY]) - 1
      timesteps = []
      for t in range(last + 1):
        observation = {group: values[t] for group, values in frames.items()}
        observation[imitation.GOAL] = np.array([index, t], np.int32)
        keys = (imitation.IMITATION, imitation.TASK)
        timesteps.append(
          dm_env.TimeStep(
            _step_type(t, last),
            dict.fromkeys(keys, np.float32(rng.uniform())),
            dict.fromkeys(keys, np.float32(1)),
            observation,
          )
        )
      yield timesteps

  def features(self, timesteps: Sequence[dm_env.TimeStep]) -> np.ndarray:
    """Returns what the networks see of each timestep, (T, F)."""
    batch = {
      group: np.stack([t.observation[group] for t in timesteps])
      for group in timesteps[0].observation
    }
    return self.policy.embed(batch, self.bank).numpy()

  def networks(self) -> tuple[snt.Module, snt.Module]:
    """Returns a new policy and a new critic."""
    config, d4pg = self.config, self.config.d4pg
    features = self.policy.blank
    actor = policies.PolicyNetwork(policy_lib.NUM_ACTIONS, config.network)
    critic = critics.CriticNetwork(
      config.network, d4pg.num_atoms, d4pg.v_min, d4pg.v_max
    )
    critic(features, actor(features))
    return actor, critic

  def acme_spec(self) -> specs.EnvironmentSpec:
    """Returns the specs of an environment that gives the features."""
    return specs.EnvironmentSpec(
      specs.Array(self.policy.blank.shape[1:], np.float32),
      self.spec.actions,
      self.spec.rewards[imitation.IMITATION],
      self.spec.discounts[imitation.IMITATION],
    )


def _step_type(t: int, last: int) -> dm_env.StepType:
  if t == 0:
    return dm_env.StepType.FIRST
  return dm_env.StepType.LAST if t == last else dm_env.StepType.MID


def fill(problem: _Problem, client: reverb.Client, episodes: int) -> None:
  """Writes the same episodes to both tables, each with its own adder."""
  d4pg = problem.config.d4pg
  writer = adders.Writer(client, problem.codec, (replay.IMITATION,), lambda: False)
  ours = adders.StepAdder(writer)
  acme = acme_replay.NStepTransitionAdder(client, d4pg.n_step, d4pg.discount)
  rng = np.random.default_rng(1)
  for timesteps in problem.episodes(episodes):
    features = problem.features(timesteps)
    for t, timestep in enumerate(timesteps):
      seen = timestep._replace(
        reward=timestep.reward[imitation.IMITATION],
        discount=timestep.discount[imitation.IMITATION],
        observation=features[t],
      )
      if t == 0:
        ours.add_first(timestep)
        acme.add_first(seen)
      else:
        action = rng.uniform(-1, 1, policy_lib.NUM_ACTIONS).astype(np.float32)
        ours.add(action, timestep)
        acme.add(action, seen)
  ours.reset()


def our_learner(problem: _Problem, dataset: Iterator[Any]) -> learning.D4PGLearner:
  """Returns our learner as a node of a run has it."""
  d4pg, codec = problem.config.d4pg, problem.codec
  policy, critic = problem.networks()
  target_policy, target_critic = problem.networks()
  return learning.D4PGLearner(
    lambda observation: problem.policy.embed(observation, problem.bank),
    policy,
    critic,
    target_policy,
    target_critic,
    tf.linspace(d4pg.v_min, d4pg.v_max, d4pg.num_atoms),
    dataset,
    lambda rows: codec.unpack(rows, d4pg.n_step),
    d4pg,
    reward=imitation.IMITATION,
  )


def acme_learner(
  problem: _Problem, dataset: Iterator[Any]
) -> acme_learning.D4PGLearner:
  """Returns Acme's learner, of the same hyperparameters where it has them."""
  d4pg = problem.config.d4pg
  policy, critic = problem.networks()
  target_policy, target_critic = problem.networks()
  return acme_learning.D4PGLearner(
    policy,
    critic,
    target_policy,
    target_critic,
    discount=d4pg.discount,
    target_update_period=_ACME_TARGET_PERIOD,
    dataset_iterator=dataset,
    policy_optimizer=snt.optimizers.Adam(d4pg.policy_learning_rate),
    critic_optimizer=snt.optimizers.Adam(d4pg.critic_learning_rate),
    clipping=bool(d4pg.gradient_clip),
    counter=counting.Counter(),
    logger=loggers.NoOpLogger(),
    checkpoint=False,
  )


def _updates(learner: Any, number: int, per_call: int) -> common.Arm:
  def work() -> int:
    calls = -(-number // per_call)
    for _ in range(calls):
      learner.step()
    return calls * per_call

  return common.timed(work)


def _tables(config: config_lib.Config, signature: Any) -> list[reverb.Table]:
  (ours,) = replay.tables(_Problem(config).codec, config, demonstrated=0)
  return [
    acme_replay.unthrottled(ours),
    acme_replay.table(signature, config.replay.max_size),
  ]


def _arms(
  problem: _Problem, client: reverb.Client, updates: int
) -> dict[str, common.Arm]:
  d4pg = problem.config.d4pg
  sources = replay.sources(problem.config, config_lib.IMITATION)
  ours = sampling.Sampler(client, sources, d4pg.steps_per_call, _PATIENCE)
  acme = datasets.make_reverb_dataset(
    client.server_address, d4pg.batch_size, _ACME_PREFETCH, acme_replay.TABLE
  )
  ours_fixed = itertools.repeat(next(ours))
  acme_fixed = tf.data.Dataset.from_tensors(next(iter(acme))).repeat()
  return {
    name: _updates(learner, updates, per_call)
    for name, learner, per_call in (
      (OURS, our_learner(problem, ours), d4pg.steps_per_call),
      (ACME, acme_learner(problem, iter(acme)), 1),
      (OURS + _FIXED, our_learner(problem, ours_fixed), d4pg.steps_per_call),
      (ACME + _FIXED, acme_learner(problem, iter(acme_fixed)), 1),
    )
  }


def main(arguments: Arguments) -> int:
  """Measures, writes and prints; returns the exit status."""
  common.limit_threads()
  config = dataclasses.replace(
    presets.LAPTOP, demonstrations=os.path.abspath(arguments.demonstrations)
  )
  problem = _Problem(config)
  signature = acme_replay.signature(problem.acme_spec())
  with common.server(functools.partial(_tables, config, signature)) as server:
    client = reverb.Client(server.address)
    fill(problem, client, arguments.episodes)
    arms = _arms(problem, client, arguments.updates)
    measurements = common.measure(arms, arguments.rounds)
  common.write(arguments.output, common.rows(measurements))
  for arm, rate in common.medians(measurements).items():
    print(f'{arm}: {rate:.1f} updates per CPU second')
  fixed = common.ratio(measurements, OURS + _FIXED, ACME + _FIXED)
  print(f"learner / Acme's, fixed batch: {fixed:.2f}")
  return common.report(common.compare(measurements, 'learner'))


if __name__ == '__main__':
  common.leave(main(tyro.cli(Arguments, description=__doc__)))
