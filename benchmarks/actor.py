"""Environment steps per CPU second of our actor, of bare physics, and of Acme's actor.

    python -m benchmarks.actor

All of an actor counts: policy, physics, reward and writes to a Reverb server in another
process. The policy is cloned beforehand from the demonstrators' actions: an untrained
one would lose track at once, and its actor would spend its time on resets.

The bare physics is `mj_step(model, data, 20)` through the very states and actions of
our actor's round. Acme's is EnvironmentLoop, FeedForwardActor and NStepTransitionAdder
on dm_control's own environment, with a policy network of the same sizes.
"""

import dataclasses
import functools
import os
import tempfile
import threading
import time
from typing import Any

import acme
from acme import wrappers
from acme.agents.tf import actors as acme_actors
from acme.tf import networks as acme_networks
from acme.tf import utils as acme_utils
from acme.utils import counting
from acme.utils import loggers
import dm_env
import mujoco
import numpy as np
import reverb
import sonnet as snt
import tyro

from agents import actors
from agents import builder
from agents import parameters
from agents.bc import learning as bc_learning
from benchmarks import acme_replay
from benchmarks import common
from envs import simulator
from envs import stepping
from envs import tasks
from metamimic import config as config_lib
from metamimic import policy as policy_lib
from metamimic import preparation
from metamimic import presets
from metamimic.demonstrations import goals
from metamimic.demonstrations import storage
from metamimic.networks import policies

OURS, RAW, ACME = 'ours', 'mj_step', 'acme'
_SUBSTEPS = 20


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Measures environment steps per CPU second."""

  demonstrations: str = 'data/lift_brick.hdf5'
  """File of lift demonstrations to follow."""
  learner_steps: int = 5000
  """Of behavioural cloning beforehand."""
  rounds: int = 5
  """Turns of each arm."""
  environments: int = 0
  """Environments in our actor; 0: as the laptop preset has."""
  steps: int = 4000
  """Environment steps in a turn."""
  output: str = f'{common.RESULTS}/benchmark_actor.csv'
  """File of the results."""


class _Recorder:
  """An environment that keeps what is done to it."""

  def __init__(self, environment: stepping.ManipulationEnvironment):
    self._environment = environment
    self.states: list[np.ndarray] = []
    self.actions: list[list[np.ndarray]] = []

  def __getattr__(self, name: str) -> Any:
    return getattr(self._environment, name)

  def begin(self) -> None:
    """Forgets what was kept, and begins with the present state."""
    self.states, self.actions = [self._environment.get_state()], [[]]

  def set_state(self, state: np.ndarray) -> dict[str, np.ndarray]:
    self.states.append(state)
    self.actions.append([])
    return self._environment.set_state(state)

  def advance(self, action: np.ndarray) -> dict[str, np.ndarray]:
    self.actions[-1].append(action)
    return self._environment.advance(action)


class _Ours:
  """Our actor as a node of a run has it."""

  def __init__(self, actor: actors.Actor, steps: int):
    self._actor = actor
    self._steps = steps
    environments: Any = actor.environments
    self.recorders = [_Recorder(e.environment) for e in environments]
    for environment, recorder in zip(environments, self.recorders, strict=True):
      environment.environment = recorder
    actor.run(1)

  def __call__(self) -> tuple[float, float]:
    for recorder in self.recorders:
      recorder.begin()
    begun = time.process_time()
    self._actor.run(self._steps)
    seconds = time.process_time() - begun
    return sum(len(a) for r in self.recorders for a in r.actions), seconds


def raw(ours: _Ours, physics: stepping.ManipulationEnvironment) -> tuple[float, float]:
  """Steps the physics through what our actor did last; starts of episodes are free."""
  model, data = physics.physics.model.ptr, physics.physics.data.ptr
  limits, seconds, steps = physics.scene.velocity_limits, 0.0, 0
  for recorder in ours.recorders:
    for state, actions in zip(recorder.states, recorder.actions, strict=True):
      physics.set_state(state)
      controls = [np.clip(a, -1, 1) * limits for a in actions]
      begun = time.process_time()
      for control in controls:
        data.ctrl[:] = control
        mujoco.mj_step(model, data, _SUBSTEPS)
      seconds += time.process_time() - begun
      steps += len(actions)
    if not np.array_equal(data.qpos, recorder.physics.data.qpos):
      raise RuntimeError('the bare physics took another course than our actor')
  return steps, seconds


def acme_environment() -> dm_env.Environment:
  """Returns dm_control's own lift_brick, wrapped as Acme's examples do."""
  environment = simulator.manipulation.load(tasks.get('lift_brick').environment, seed=0)
  environment = wrappers.CanonicalSpecWrapper(environment, clip=True)
  return wrappers.SinglePrecisionWrapper(environment)


def acme_loop(
  environment: dm_env.Environment, client: reverb.Client, config: config_lib.Config
) -> acme.EnvironmentLoop:
  """Returns Acme's loop with a policy of our sizes."""
  spec = acme.make_environment_spec(environment)
  network = snt.Sequential(
    [
      acme_utils.batch_concat,
      policies.PolicyNetwork(policy_lib.NUM_ACTIONS, config.network),
      acme_networks.ClippedGaussian(config.actor.sigma),
      acme_networks.ClipToSpec(spec.actions),
    ]
  )
  acme_utils.create_variables(network, [spec.observations])
  adder = acme_replay.NStepTransitionAdder(
    client, config.d4pg.n_step, config.d4pg.discount
  )
  return acme.EnvironmentLoop(
    environment,
    acme_actors.FeedForwardActor(network, adder),
    counter=counting.Counter(),
    logger=loggers.NoOpLogger(),
  )


def _tables(
  config: config_lib.Config, run_dir: str, signature: Any
) -> list[reverb.Table]:
  """Both actors' tables, and ours of parameters; nothing throttles an insert."""
  made = builder.Builder(config, run_dir, threading.Event())
  experience, published = made.replay_tables()
  return [
    acme_replay.unthrottled(experience),
    published,
    acme_replay.table(signature, config.replay.max_size),
  ]


def laptop(demonstrations: str, environments: int = 0) -> config_lib.Config:
  """Returns the laptop preset, but its actors never act at random.

  Args:
    demonstrations: file of them.
    environments: in an actor; 0: as the preset has.
  """
  config = presets.LAPTOP
  return dataclasses.replace(
    config,
    demonstrations=os.path.abspath(demonstrations),
    actor=dataclasses.replace(
      config.actor,
      random_steps=0,
      environments=environments or config.actor.environments,
    ),
    evaluation=dataclasses.replace(config.evaluation, videos=0),
  )


def clone(config: config_lib.Config, learner_steps: int) -> policy_lib.Policy:
  """Returns a policy that follows well: cloned from the demonstrators' actions.

  Args:
    config: of a run, which `preparation.prepare` has checked.
    learner_steps: of behavioural cloning.
  """
  demonstrations = storage.load(config.demonstrations, with_actions=True, vetted=True)
  layout = tasks.get(demonstrations.task).layout
  policy = policy_lib.create(config_lib.IMITATION, layout, config, demonstrations)
  bank = goals.GoalBank(demonstrations.demonstrations, layout)
  frames = config.bc.batch_size * config.bc.steps_per_call
  learner = bc_learning.BCLearner(
    lambda observation: policy.embed(observation, bank),
    policy.network,
    iter(bc_learning.frames(demonstrations, layout.sizes, frames, config.seed)),
    config.bc,
  )
  while learner.num_steps < learner_steps:
    learner.step()
  return policy


def _run(loop: acme.EnvironmentLoop, steps: int) -> int:
  done = 0
  while done < steps:
    done += loop.run_episode()['episode_length']
  return done


def main(arguments: Arguments) -> int:
  """Measures, writes and prints; returns the exit status."""
  common.limit_threads()
  config = laptop(arguments.demonstrations, arguments.environments)
  environment = acme_environment()
  signature = acme_replay.signature(acme.make_environment_spec(environment))
  with tempfile.TemporaryDirectory() as run_dir:
    preparation.prepare(config, run_dir)
    make_tables = functools.partial(_tables, config, run_dir, signature)
    with common.server(make_tables) as server:
      client = reverb.Client(server.address)
      policy = clone(config, arguments.learner_steps)
      parameters.publish(
        client, config_lib.IMITATION, policy.variables, arguments.learner_steps
      )
      made = builder.Builder(config, run_dir, threading.Event())
      ours = _Ours(made.actor(client, 0), arguments.steps)
      loop = acme_loop(environment, client, config)
      measurements = common.measure(
        {
          OURS: ours,
          RAW: functools.partial(raw, ours, tasks.load('lift_brick', seed=0)),
          ACME: common.timed(functools.partial(_run, loop, arguments.steps)),
        },
        arguments.rounds,
      )
  common.write(arguments.output, common.rows(measurements))
  for arm, rate in common.medians(measurements).items():
    print(f'{arm}: {rate:.0f} steps per CPU second')
  return common.report(common.compare(measurements, 'actor'))


if __name__ == '__main__':
  common.leave(main(tyro.cli(Arguments, description=__doc__)))
