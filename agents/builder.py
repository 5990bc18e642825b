"""Configuration -> the parts of a run, each by the name of its role.

A node of the program builds only what its role needs.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import os
import shutil
import threading
import time
from typing import Any

import numpy as np
import reverb
import tensorflow as tf

from agents import actors
from agents import adders
from agents import environments as environments_lib
from agents import evaluator as evaluator_lib
from agents import learners
from agents import learning
from agents import logs
from agents import parameters
from agents import replay
from agents.d4pg import demonstrators
from metamimic import checkpoints
from metamimic import config as config_lib
from metamimic import controllers
from metamimic import drafts
from metamimic import evaluation
from metamimic import files
from metamimic import policy as policy_lib
from metamimic import preparation
from metamimic import run_description
from metamimic import showing
from metamimic.demonstrations import goals
from metamimic.demonstrations import storage
from metamimic.demonstrations import types

# Separate streams of random numbers for each use of the run's one seed.
_NETWORKS, _ACTOR, _EXPLORATION, _TARGETS = range(4)


class Builder:
  """Makes the parts of one run."""

  def __init__(self, config: config_lib.Config, run_dir: str, stop: threading.Event):
    """Reads what `preparation.prepare` has agreed on.

    Args:
      config: of the run.
      run_dir: a run directory that `prepare` has written to.
      stop: set when the run shall stop.
    """
    self._config = config
    self._run_dir = run_dir
    self._stop = stop
    self._description = run_description.read(run_dir)
    self._layout = preparation.seen_layout(config, self._description['task'])

  @functools.cached_property
  def _codec(self) -> replay.Codec:
    return replay.codec(self._layout, self._config)

  def _demonstrations(self, with_actions: bool = False) -> types.DemonstrationSet:
    return preparation.load_demonstrations(self._config, with_actions, vetted=True)

  def _references(self, demonstrations: types.DemonstrationSet) -> Any:
    return preparation.references(demonstrations, self._description.get('frames', {}))

  def _bank(self, demonstrations: types.DemonstrationSet) -> goals.GoalBank:
    return goals.GoalBank(self._references(demonstrations), self._layout)

  def _seed(self, *stream: int) -> int:
    sequence = np.random.SeedSequence([self._config.seed, *stream])
    return int(sequence.generate_state(1)[0])

  def _policy(
    self, learner: str, demonstrations: types.DemonstrationSet
  ) -> policy_lib.Policy:
    tf.random.set_seed(self._seed(_NETWORKS))
    return policy_lib.create(learner, self._layout, self._config, demonstrations)

  def replay_tables(self) -> list[reverb.Table]:
    """Returns the tables of experience, and those of parameters."""
    config = self._config
    demonstrated = 0
    if replay.DEMONSTRATIONS in self._sources(config.learners):
      demonstrated = demonstrators.num_transitions(self._demonstrations())
    published = [
      parameters.table(name)
      for learner in config.learners
      for name in parameters.names(config, learner)
    ]
    if config_lib.CLONING in config.learners:
      return published
    return [*replay.tables(self._codec, config, demonstrated), *published]

  def _sources(self, learners: Sequence[str]) -> set[str]:
    config = self._config
    return {
      table
      for learner in learners
      if learner != config_lib.CLONING
      for table in replay.sources(config, learner)
    }

  def replay_checkpointer(self) -> Any:
    """Returns what restores the tables from the newest checkpoint set, and saves them.

    Raises:
      DamagedError: there are checkpoint sets, and none is good.
    """
    found = checkpoints.recover(self._run_dir, learners=self._config.learners)
    folder = drafts.server_folder(self._run_dir)
    # A server that died left what nobody will complete.
    shutil.rmtree(folder, ignore_errors=True)
    tables = str(found.path / checkpoints.REPLAY) if found else None
    return reverb.platform.checkpointers_lib.DefaultCheckpointer(folder, '', tables)

  def learner(self, client: reverb.Client, index: int) -> learning.LearnerProcess:
    """Returns the learner of this index in `config.learners`."""
    name = self._config.learners[index]
    demonstrations = self._demonstrations(self._config.sees_actions)
    # One policy, or the newest and its average.
    policies = {
      published: self._policy(name, demonstrations)
      for published in parameters.names(self._config, name)
    }
    bank, seed = self._bank(demonstrations), self._seed(_TARGETS)
    if name == config_lib.CLONING:
      cloning = learners.make_cloning(
        self._config, policies[name], demonstrations, bank, seed
      )
      return self._process(name, cloning, policies, client)
    learner = learners.make_off_policy(
      name,
      self._config,
      self._codec,
      policies,
      self._policy(name, demonstrations),
      bank,
      client,
      seed,
    )

    def warm_up() -> None:
      learner.compile(learners.blank_batch(name, self._config, self._codec))

    def fill() -> None:
      if replay.DEMONSTRATIONS in replay.sources(self._config, name):
        demonstrators.write(
          client,
          self._codec,
          demonstrations,
          self._stop.is_set,
          lambda: self._references(demonstrations),
        )

    return self._process(name, learner, policies, client, warm_up, fill)

  def _process(
    self,
    name: str,
    learner: Any,
    policies: Mapping[str, policy_lib.Policy],
    client: reverb.Client,
    warm_up: Callable[[], None] = lambda: None,
    fill: Callable[[], None] = lambda: None,
  ) -> learning.LearnerProcess:
    return learning.LearnerProcess(
      name,
      learner,
      {published: policy.variables for published, policy in policies.items()},
      {'features': policies[name].features},
      client,
      self._run_dir,
      logs.RoleLogger(self._run_dir, f'learner-{name}', step='learner_steps'),
      self._config,
      self._stop,
      self._sources([name]),
      warm_up,
      fill,
    )

  def actor(self, client: reverb.Client, index: int) -> actors.Actor:
    """Returns the actor of this index; see `config.acts_for`."""
    config = self._config
    name = config.acts_for(index)
    settings = config.actor_of(name)
    demonstrations = self._demonstrations()
    policy = self._policy(name, demonstrations)
    logger = logs.RoleLogger(self._run_dir, f'actor-{index}', step='environment_steps')
    # Neither a resumed run nor an actor that is started again must act out the same
    # episodes.
    begun = int(time.time() * 1000) if logger.last_count('environment_steps') else 0
    seeds = [self._seed(_ACTOR, index, i, begun) for i in range(settings.environments)]
    period = settings.update_period
    reader = self._reader(client, name, name, policy, period, can_wait=False)
    make = environments_lib.solving
    if config.follows(name):
      make = environments_lib.imitating
    environments = make(config, self._run_dir, demonstrations, seeds)
    act = policy.actor(self._bank(demonstrations), len(environments))

    def over() -> bool:
      return self._stop.is_set() or reader.update().finished

    def may_begin() -> bool:
      if name != config_lib.TASK or replay.SHARED not in replay.sources(config, name):
        return True
      after = config.task.start_after
      return replay.wait_for(client, replay.SHARED, after, self._stop.is_set)

    writer = self._writer(client, name, len(environments), over)
    return actors.Actor(
      environments,
      [adders.StepAdder(writer) for _ in environments],
      act,
      reader,
      logger,
      settings,
      self._seed(_EXPLORATION, index, begun),
      self._stop.is_set,
      may_begin,
      steps=logger.last_count('environment_steps'),
      episodes=logger.last_count('episodes'),
    )

  def _reader(
    self,
    client: reverb.Client,
    learner: str,
    published: str,
    policy: policy_lib.Policy,
    period: float,
    can_wait: bool = True,
  ) -> parameters.Reader:
    """Returns what copies a learner's parameters into a policy."""
    last = self._config.last_step(learner)
    return parameters.Reader(
      client,
      published,
      policy.variables,
      last,
      period,
      lambda: checkpoints.has_reached(self._run_dir, learner, last),
      can_wait,
    )

  def _writer(
    self,
    client: reverb.Client,
    actor: str,
    environments: int,
    over: Callable[[], bool],
  ) -> adders.Writer | adders.PictureWriter:
    tables = replay.written_by(self._config, actor)
    if self._codec.pictures is None:
      return adders.Writer(client, self._codec, tables, over)
    horizons = {
      table: self._config.d4pg_of(replay.learner_of(table)).n_step for table in tables
    }
    return adders.PictureWriter(client, self._codec, horizons, environments, over)

  def evaluator(self, client: reverb.Client) -> evaluator_lib.Evaluator:
    """Returns the evaluator. Its control arms see actions; the policies do not."""
    config = self._config
    with_actions = storage.has_actions(config.demonstrations, vetted=True)
    demonstrations = self._demonstrations(with_actions)
    pictures = self._layout.pictures
    reward = run_description.reward(self._run_dir)
    environments = unseen = evaluation.make_environments(
      demonstrations, reward, pictures=pictures
    )
    if pictures is not None:
      # Drawing for arms that do not look would take longer than all the rest.
      unseen = evaluation.make_environments(demonstrations, reward)
    learned: list[evaluator_lib.Learned] = []
    readers: dict[str, parameters.Reader] = {}
    draw: list[Callable[[int], object]] = []
    videos = os.path.join(self._run_dir, 'videos')
    for name in config.learners:
      policy = self._policy(name, demonstrations)
      act = policy.actor(self._bank(demonstrations))
      misguided: Mapping[str, evaluator_lib.Run] = {}
      if config.follows(name):
        follow = controllers.follow(act)
        run = functools.partial(evaluation.run, environments, follow)
        arms = controllers.misguided(act, policy.unguided(), demonstrations.valid)
        misguided = {
          arm: functools.partial(evaluation.run, environments, controller)
          for arm, controller in arms.items()
        }
        show = functools.partial(showing.write_comparison, videos, environments[0])
      else:
        solve_in = evaluation.make_task_environments(
          demonstrations, pictures=pictures, dense=config.task.is_dense
        )
        run = functools.partial(evaluation.solve, solve_in, act)
        arm = config.arm(name)
        show = functools.partial(showing.write_solution, videos, arm, solve_in[0])
      draw.append(functools.partial(show, demonstrations, act))
      published = parameters.used(config, name)
      # Those of a policy that clones are published as often as an actor would ask.
      period = config.actor_of(name).update_period
      readers[name] = reader = self._reader(client, name, published, policy, period)
      learned.append(evaluator_lib.Learned(config.arm(name), reader, run, misguided))
    whole = unseen[0].environment.layout
    controls = controllers.controls(demonstrations, whole)
    return evaluator_lib.Evaluator(
      demonstrations,
      learned,
      {
        arm: functools.partial(evaluation.run, unseen, controller)
        for arm, controller in controls.items()
      },
      self._description['terms'],
      logs.RoleLogger(self._run_dir, 'evaluator'),
      config,
      self._run_dir,
      lambda: self._finish(client, demonstrations, draw, readers),
      self._stop,
    )

  def _seconds_running(self) -> float:
    now = time.time()
    try:
      return run_description.seconds_running(self._run_dir, now)
    except FileNotFoundError:  # There is no launcher of ours.
      return now - self._description['started']

  def _finish(
    self,
    client: reverb.Client,
    demonstrations: types.DemonstrationSet,
    draw: Sequence[Callable[[int], object]],
    readers: Mapping[str, parameters.Reader],
  ) -> None:
    for i in demonstrations.valid[: self._config.evaluation.videos]:
      for policy in draw:
        policy(i)
    info = replay.wait_for_info(client, self._stop.is_set)
    summary = {
      # They may be more than was asked for: a run can be resumed with fewer.
      'learner_steps': {
        name: reader.progress.learner_steps for name, reader in readers.items()
      },
      'environment_steps': replay.written(info, self._config),
      'wall_seconds': self._seconds_running(),
    }
    # Its plots take a second to import, and no other node draws any.
    from metamimic import report

    report.write(self._run_dir, summary)
    # Last, because a run that has a summary is not resumed.
    files.write_json(os.path.join(self._run_dir, 'summary.json'), summary)
