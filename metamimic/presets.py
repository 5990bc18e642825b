"""Named settings of whole runs, by which the launcher begins."""

from collections.abc import Mapping
import dataclasses

from metamimic import config

LARGE_TORSOS = config.NetworkConfig(
  torso='residual', filters=(64, 128, 256, 256), embedding=512
)
"""20 convolutions for each of policy and critic; 22 M parameters in both together at
84 x 84 pixels.
(Number and kind: paper; sizes of stages: ours.)"""
SMALL_TORSOS = config.NetworkConfig(
  torso='residual', filters=(16, 32, 32), embedding=256, normalise=False
)
"""The torso of Espeholt et al. 2018."""

LAPTOP = config.Config(learner_steps=40_000)

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
    config.Config(
      learner_steps=20_000,
      pixels=config.PixelsConfig(cameras=('front',)),
      d4pg=config.D4PGConfig(batch_size=64, steps_per_call=4),
      bc=config.BCConfig(batch_size=64, steps_per_call=4),
      replay=config.ReplayConfig(
        max_size=60_000, min_size=1_000, samples_per_insert=32.0
      ),
      actor=config.ActorConfig(environments=8, sigma=0.1),
      task=config.TaskConfig(
        d4pg=dataclasses.replace(
          config.TaskConfig().d4pg, batch_size=64, steps_per_call=4
        ),
        replay=config.ReplayConfig(
          max_size=60_000, min_size=1_000, samples_per_insert=51.0
        ),
        actor=config.ActorConfig(environments=8, sigma=0.1),
      ),
      evaluation=config.EvaluationConfig(period=120.0),
    ),
  ),
  'pixels_paper': (
    'From pictures, with networks of the size of the paper: weeks on a processor.',
    config.Config(
      learner_steps=200_000,
      pixels=config.PixelsConfig(cameras=('front',), size=84),
      network=LARGE_TORSOS,
      d4pg=config.D4PGConfig(batch_size=64, steps_per_call=1),
      bc=config.BCConfig(batch_size=64, steps_per_call=1),
      replay=config.ReplayConfig(
        max_size=200_000, min_size=1_000, samples_per_insert=32.0
      ),
      actor=config.ActorConfig(num_actors=8, environments=8, sigma=0.1),
      task=config.TaskConfig(
        d4pg=dataclasses.replace(
          config.TaskConfig().d4pg, batch_size=64, steps_per_call=1
        ),
        replay=config.ReplayConfig(
          max_size=200_000, min_size=1_000, samples_per_insert=51.0
        ),
        actor=config.ActorConfig(environments=8, sigma=0.1),
      ),
      evaluation=config.EvaluationConfig(period=600.0),
    ),
  ),
  'paper': (
    'Large normalised networks and many actors: hours, and a larger machine.',
    config.Config(
      network=config.NetworkConfig(
        policy_width=1024, policy_blocks=4, critic_width=1024, critic_blocks=4
      ),
      d4pg=config.D4PGConfig(batch_size=256),
      replay=config.ReplayConfig(max_size=1_000_000, min_size=10_000),
      actor=config.ActorConfig(num_actors=16),
    ),
  ),
}
