"""Configuration -> the parts of a run, each by the name of its role.

A node of the program builds only what its role needs. Two builders, one for each
algorithm; both give the same evaluator, so that their results compare.
"""

from collections.abc import Callable, Sequence
import json
import os
import threading
import time
from typing import Any

import numpy as np
import reverb
import tensorflow as tf

from agents import actors
from agents import adders
from agents import evaluator as evaluator_lib
from agents import learning
from agents import logs
from agents import parameters
from agents import replay
from agents.bc import learning as bc_learning
from agents.d4pg import learning as d4pg_learning
from envs import imitation
from envs import observations
from envs import rewards
from envs import tasks
from metamimic import config as config_lib
from metamimic import evaluation
from metamimic import policy as policy_lib
from metamimic import preparation
from metamimic import showing
from metamimic.demonstrations import goals
from metamimic.demonstrations import storage
from metamimic.demonstrations import types
from metamimic.networks import critics

# Separate streams of random numbers for each use of the run's one seed.
_NETWORKS, _ACTOR, _EXPLORATION = range(3)


class _Builder:
  """What both algorithms share."""

  def __init__(self, config: config_lib.Config, run_dir: str, stop: threading.Event):
    """Loads the demonstrations.

    Args:
      config: of the run.
      run_dir: a run directory that `prepare` has written to.
      stop: set when the run shall stop.
    """
    self._config = config
    self._run_dir = run_dir
    self._stop = stop
    self._description = preparation.description(run_dir)
    self._layout = observations.Layout(tasks.get(self._description['task']).objects)

  def _demonstrations(self, with_actions: bool = False) -> types.DemonstrationSet:
    return storage.load(self._config.demonstrations, with_actions=with_actions)

  def _reward(self) -> rewards.RewardFunction:
    return rewards.load(
      self._description['reward'], self._layout, self._description['temperatures']
    )

  def _policy(
    self, demonstrations: types.DemonstrationSet
  ) -> policy_lib.GoalConditionedPolicy:
    tf.random.set_seed(_seed(self._config, _NETWORKS))
    return policy_lib.create(self._layout, self._config, demonstrations)

  def replay_checkpointer(self) -> Any:
    """Returns where the replay server keeps its tables."""
    path = os.path.join(self._run_dir, 'replay')
    return reverb.platform.checkpointers_lib.DefaultCheckpointer(path)

  def _learner_process(
    self,
    learner: Any,
    policy: policy_lib.GoalConditionedPolicy,
    client: reverb.Client,
    checkpoint_replay: bool,
    warm_up: Callable[[], None] = lambda: None,
  ) -> learning.LearnerProcess:
    return learning.LearnerProcess(
      learner,
      policy.variables,
      {'features': policy.features},
      client,
      os.path.join(self._run_dir, policy_lib.CHECKPOINTS),
      logs.RoleLogger(self._run_dir, 'learner', step='learner_steps'),
      self._config,
      self._stop,
      checkpoint_replay,
      warm_up,
    )

  def evaluator(self, client: reverb.Client) -> evaluator_lib.Evaluator:
    """Returns the evaluator. Its control arms see actions; the policy does not."""
    with_actions = storage.has_actions(self._config.demonstrations)
    demonstrations = self._demonstrations(with_actions)
    policy = self._policy(demonstrations)
    act = policy.actor(goals.GoalBank(demonstrations.demonstrations))
    environments = evaluation.make_environments(demonstrations, self._reward())
    return evaluator_lib.Evaluator(
      environments,
      demonstrations,
      act,
      evaluation.controls(demonstrations, self._layout),
      parameters.Reader(client, policy.variables),
      logs.RoleLogger(self._run_dir, 'evaluator'),
      self._config,
      self._run_dir,
      lambda: self._finish(client, environments[0], demonstrations, act),
      self._stop,
    )

  def _finish(
    self,
    client: reverb.Client,
    environment: imitation.ImitationEnvironment,
    demonstrations: types.DemonstrationSet,
    act: Any,
  ) -> None:
    for i in demonstrations.valid[: self._config.evaluation.videos]:
      showing.write_comparison(
        os.path.join(self._run_dir, 'videos'), environment, demonstrations, i, act
      )
    # Last, because a run that has a summary is not resumed; the report reads it.
    experience = client.server_info(timeout=60).get(replay.TABLE)
    summary = os.path.join(self._run_dir, 'summary.json')
    with open(summary + '.tmp', 'w') as f:
      json.dump(
        {
          'learner_steps': self._config.learner_steps,
          'environment_steps': experience.rate_limiter_info.insert_stats.completed
          if experience
          else 0,
          'wall_seconds': time.time() - self._description['started'],
        },
        f,
      )
    os.replace(summary + '.tmp', summary)
    try:
      # Its plots take a second to import, and no other node draws any.
      from metamimic import report

      report.write(self._run_dir)
    except BaseException:
      os.remove(summary)
      raise


class MetaMimicBuilder(_Builder):
  """D4PG on experience of following demonstrations; no action of theirs is read."""

  def replay_tables(self) -> list[reverb.Table]:
    """Returns the table of all experience and that of parameters."""
    return [replay.table(replay.spec(self._layout), self._config), parameters.table()]

  def learner(self, client: reverb.Client) -> learning.LearnerProcess:
    """Returns the learner."""
    config = self._config
    demonstrations = self._demonstrations()
    policy = self._policy(demonstrations)
    target = self._policy(demonstrations)
    bank = goals.GoalBank(demonstrations.demonstrations)
    critic, target_critic = self._critic(policy), self._critic(policy)
    d4pg = config.d4pg
    codec = replay.Codec(replay.spec(self._layout), d4pg.n_step)
    learner = d4pg_learning.D4PGLearner(
      lambda observation: policy.embed(observation, bank),
      policy.network,
      critic,
      target.network,
      target_critic,
      tf.linspace(d4pg.v_min, d4pg.v_max, d4pg.num_atoms),
      replay.sample(client, d4pg, self._stop),
      codec.unpack,
      d4pg,
      reward=imitation.IMITATION,
    )
    rows = tf.zeros([d4pg.batch_size * d4pg.steps_per_call, codec.size])
    return self._learner_process(
      learner,
      policy,
      client,
      checkpoint_replay=True,
      warm_up=lambda: learner.compile(rows),
    )

  def _critic(self, policy: policy_lib.GoalConditionedPolicy) -> critics.CriticNetwork:
    d4pg = self._config.d4pg
    critic = critics.CriticNetwork(
      self._config.network, d4pg.num_atoms, d4pg.v_min, d4pg.v_max
    )
    critic(tf.zeros([1, policy.num_features]), tf.zeros([1, policy_lib.NUM_ACTIONS]))
    return critic

  def actor(self, client: reverb.Client, index: int) -> actors.ImitationActor:
    """Returns an actor."""
    config = self._config
    demonstrations = self._demonstrations()
    policy = self._policy(demonstrations)
    # A resumed run must not act out the same episodes again.
    begun = int(time.time() * 1000)
    environments = self._environments(
      demonstrations,
      [
        _seed(config, _ACTOR, index, i, begun) for i in range(config.actor.environments)
      ],
    )
    reader = parameters.Reader(client, policy.variables, config.actor.update_period)

    def over() -> bool:
      return self._stop.is_set() or reader.update().finished

    codec = replay.Codec(replay.spec(self._layout), config.d4pg.n_step)
    writer = adders.Writer(client, codec, over)
    logger = logs.RoleLogger(self._run_dir, f'actor-{index}', step='environment_steps')
    return actors.ImitationActor(
      environments,
      [adders.StepAdder(writer) for _ in environments],
      policy.actor(goals.GoalBank(demonstrations.demonstrations), len(environments)),
      reader,
      logger,
      config.actor,
      _seed(config, _EXPLORATION, index, begun),
      self._stop.is_set,
      steps=int(logger.last.get('environment_steps', 0)),
      episodes=int(logger.last.get('episodes', 0)),
    )

  def _environments(
    self, demonstrations: types.DemonstrationSet, seeds: Sequence[int]
  ) -> list[imitation.ImitationEnvironment]:
    settings, reward = self._config.imitation, self._reward()
    return [
      imitation.ImitationEnvironment(
        environment,
        demonstrations.demonstrations,
        reward,
        demonstrations.train,
        settings.start_within,
        settings.early_end,
        seed,
      )
      for seed, environment in zip(
        seeds, tasks.load_many(demonstrations.task, seeds), strict=True
      )
    ]


class BCBuilder(_Builder):
  """Behavioural cloning: no actors, and it learns from the actions in the file."""

  def replay_tables(self) -> list[reverb.Table]:
    """Returns the table of parameters."""
    return [parameters.table()]

  def learner(self, client: reverb.Client) -> learning.LearnerProcess:
    """Returns the learner."""
    config = self._config
    demonstrations = self._demonstrations(with_actions=True)
    policy = self._policy(demonstrations)
    bank = goals.GoalBank(demonstrations.demonstrations)
    dataset = bc_learning.frames(
      demonstrations, config.bc.batch_size * config.bc.steps_per_call, config.seed
    )
    learner = bc_learning.BCLearner(
      lambda observation: policy.embed(observation, bank),
      policy.network,
      iter(dataset),
      config.bc,
    )
    return self._learner_process(learner, policy, client, checkpoint_replay=False)

  def actor(self, client: reverb.Client, index: int) -> Any:
    """Raises ValueError: there are no actors."""
    raise ValueError('behavioural cloning has no actors')


def make(
  config: config_lib.Config, run_dir: str, stop: threading.Event
) -> MetaMimicBuilder | BCBuilder:
  """Returns the builder of the configured algorithm."""
  if config.algorithm == 'bc':
    return BCBuilder(config, run_dir, stop)
  return MetaMimicBuilder(config, run_dir, stop)


def _seed(config: config_lib.Config, *stream: int) -> int:
  sequence = np.random.SeedSequence([config.seed, *stream])
  return int(sequence.generate_state(1)[0])
