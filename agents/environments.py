"""The environments that actors act in, of a run's configuration."""

from collections.abc import Sequence

from agents import actors
from envs import disturbances
from envs import imitation
from envs import solving as solving_lib
from envs import stepping
from envs import tasks
from metamimic import config as config_lib
from metamimic import preparation
from metamimic import run_description
from metamimic.demonstrations import types


def imitating(
  config: config_lib.Config,
  run_dir: str,
  demonstrations: types.DemonstrationSet,
  seeds: Sequence[int],
) -> Sequence[actors.Environment]:
  """Returns environments that reward following a demonstration.

  Args:
    config: of the run.
    run_dir: which `preparation.prepare` has written to.
    demonstrations: of the run.
    seeds: of each.
  """
  task, settings = demonstrations.task, config.imitation
  layout = preparation.actor_layout(config, task)
  reward = run_description.training_reward(run_dir, layout)
  drawn = run_description.read(run_dir)['frames']
  references = preparation.references(demonstrations, drawn)
  return [
    imitation.ImitationEnvironment(
      environment,
      references,
      reward,
      demonstrations.train,
      settings.start_within,
      settings.early_end,
      seed,
      disturber,
    )
    for seed, environment, disturber in _disturbed(
      config, task, seeds, config_lib.IMITATION
    )
  ]


def solving(
  config: config_lib.Config,
  run_dir: str,
  demonstrations: types.DemonstrationSet,
  seeds: Sequence[int],
) -> Sequence[actors.Environment]:
  """Returns environments that reward solving the task; arguments as for `imitating`."""
  del run_dir
  settings = config.task
  shown = config.algorithm != 'd4pg'
  return [
    solving_lib.TaskEnvironment(
      environment,
      demonstrations.demonstrations,
      demonstrations.train if shown else (),
      settings.start_within,
      seed,
      disturber,
      settings.patience,
      dense=settings.is_dense,
    )
    for seed, environment, disturber in _disturbed(
      config, demonstrations.task, seeds, config_lib.TASK
    )
  ]


def _disturbed(
  config: config_lib.Config, task: str, seeds: Sequence[int], actor: str
) -> list[tuple[int, stepping.ManipulationEnvironment, disturbances.Disturber | None]]:
  # Who follows is rewarded by pictures, even if the policy does not see them.
  blind = config.pixels.blind and actor == config_lib.TASK
  pictures = None if blind else config.pictures
  environments = tasks.load_many(task, seeds, pictures)
  disturbance = config.disturbance_of(actor)
  disturbers: Sequence[disturbances.Disturber | None] = [None] * len(environments)
  if disturbance != disturbances.NONE:
    disturbers = disturbances.make(
      environments, disturbance, seeds, config.disturbed_share
    )
  return list(zip(seeds, environments, disturbers, strict=True))
