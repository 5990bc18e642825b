"""Named settings of whole runs, by which the launcher begins."""

from collections.abc import Mapping
import dataclasses

from metamimic import config

LARGE_TORSOS = config.NetworkConfig(
  torso='residual', filters=(64, 128, 256, 256), embedding=512
)
"""20 convolutions for each of policy and critic; 22 M parameters in both together at
84 x 84 pixels.
(Numbers and kinds: recalled of Le Paine et al. 2018; sizes of stages: ours.)"""
SMALL_TORSOS = config.NetworkConfig(
  torso='residual', filters=(16, 32, 32), embedding=256, normalise=False
)
"""The torso of Espeholt et al. 2018."""


def _from_pictures(
  learner_steps: int, start_after: int, steps_per_call: int, max_size: int
) -> config.Config:
  """Returns what runs from pictures have in common; arguments as in the settings.

  Their task policy learns in the way that was measured from pictures, for half as many
  steps again as imitation.
  """
  batch, environments, sigma = 64, 8, 0.1

  def replay(samples_per_insert: float) -> config.ReplayConfig:
    return config.ReplayConfig(max_size, 1_000, samples_per_insert)

  return config.Config(
    learner_steps=learner_steps,
    pixels=config.PixelsConfig(cameras=('front',)),
    d4pg=config.D4PGConfig(batch_size=batch, steps_per_call=steps_per_call),
    bc=config.BCConfig(batch_size=batch, steps_per_call=steps_per_call),
    replay=replay(32.0),
    actor=config.ActorConfig(environments=environments, sigma=sigma),
    task=config.TaskConfig(
      turned=False,
      learner_steps=learner_steps * 3 // 2,
      start_after=start_after,
      d4pg=dataclasses.replace(
        config.TaskConfig().d4pg,
        critics=1,
        cloning_weight=5.0,
        reset_at=0.0,
        batch_size=batch,
        steps_per_call=steps_per_call,
      ),
      replay=replay(51.0),
      actor=config.ActorConfig(environments=environments, sigma=sigma),
    ),
  )


_PIXELS = _from_pictures(
  learner_steps=20_000, start_after=15_000, steps_per_call=4, max_size=60_000
)
_PIXELS_PAPER = _from_pictures(
  learner_steps=200_000, start_after=40_000, steps_per_call=1, max_size=200_000
)

LAPTOP = config.Config(learner_steps=40_000)

# Seconds. All actors together fetch less than 100 MB/s then, which one server can give.
_LARGE_PERIOD = 5.0


def _seldom(task: config.TaskConfig) -> config.TaskConfig:
  actor = dataclasses.replace(task.actor, update_period=_LARGE_PERIOD)
  return dataclasses.replace(task, actor=actor)


PRESETS: Mapping[str, tuple[str, config.Config]] = {
  'tiny': (
    'Seconds, for tests: it shows that everything runs, not that it learns.',
    config.Config(
      learner_steps=600,
      checkpoint_period=5.0,
      network=config.NetworkConfig(policy_width=32, critic_width=32),
      d4pg=config.D4PGConfig(batch_size=32),
      replay=config.ReplayConfig(
        max_size=20_000, min_size=200, samples_per_insert=12.8
      ),
      actor=config.ActorConfig(environments=2, random_steps=200),
      task=config.TaskConfig(
        learner_steps=400,
        start_after=500,
        d4pg=dataclasses.replace(config.TaskConfig().d4pg, batch_size=32),
        replay=config.ReplayConfig(
          max_size=20_000, min_size=200, samples_per_insert=12.8
        ),
        actor=config.ActorConfig(environments=2, random_steps=200),
      ),
      evaluation=config.EvaluationConfig(
        period=5.0, episodes=2, final_episodes=3, videos=1
      ),
    ),
  ),
  'laptop': ('The default run: minutes on two cores.', LAPTOP),
  'pixels': (
    'From pictures, with lift_brick: a quarter of an hour on two cores.',
    dataclasses.replace(_PIXELS, evaluation=config.EvaluationConfig(period=120.0)),
  ),
  'pixels_paper': (
    'From pictures, with networks of the size of the paper: weeks on a processor.',
    dataclasses.replace(
      _PIXELS_PAPER,
      pixels=dataclasses.replace(_PIXELS_PAPER.pixels, size=84),
      network=LARGE_TORSOS,
      actor=dataclasses.replace(
        _PIXELS_PAPER.actor, num_actors=8, update_period=_LARGE_PERIOD
      ),
      task=_seldom(_PIXELS_PAPER.task),
      evaluation=config.EvaluationConfig(period=600.0),
    ),
  ),
  'paper': (
    'Large normalised networks and many actors: days, on a larger machine.',
    config.Config(
      network=config.NetworkConfig(
        policy_width=1024, policy_blocks=4, critic_width=1024, critic_blocks=4
      ),
      d4pg=config.D4PGConfig(batch_size=256),
      replay=config.ReplayConfig(max_size=1_000_000, min_size=10_000),
      actor=config.ActorConfig(num_actors=16, update_period=_LARGE_PERIOD),
      task=_seldom(config.TaskConfig()),
    ),
  ),
}
