"""What is refused before a run starts: values that cannot work, code of others."""

from collections.abc import Mapping
from typing import Any

from envs import disturbances
from envs import pictures
from envs import reward_library
from metamimic import config as config_lib
from metamimic import plain

_LARGEST = 512  # Pixels.


def validate(config: config_lib.Config) -> None:
  """Refuses values that no run can work with.

  Raises:
    ValueError: the message names the field, its value and what was expected.
  """
  settings = config_lib.to_dict(config)
  # What a command line gives need not be finite.
  plain.build(config_lib.Config, settings, 'configuration')
  values = plain.flatten(settings)
  if config.seed < 0:
    raise ValueError(f'seed is {config.seed}; expected 0 or more')
  for name in (
    'learner_steps',
    'checkpoint_period',
    'stall_warning',
    'bc.batch_size',
    'bc.learning_rate',
    'bc.steps_per_call',
    'task.learner_steps',
    'task.start_after',
    'evaluation.period',
    'evaluation.episodes',
    'evaluation.final_episodes',
    'network.policy_width',
    'network.critic_width',
    'imitation.temperature_factor',
  ):
    _positive(values, name)
  for name in (
    *(f'network.{n}' for n in ('policy_blocks', 'critic_blocks', 'block_layers')),
    'train_demonstrations',
    'evaluation.videos',
    'task.patience',
  ):
    _not_negative(values, name)
  _validate_task(config)
  for name in ('start_within', 'early_end'):
    _share(values, f'imitation.{name}')
  for name in ('imitation_share', 'demonstration_share', 'start_within'):
    _share(values, f'task.{name}')
  for prefix in ('', 'task.'):
    _validate_learning(values, prefix)
  _share(values, 'disturbed_share')
  for kind in (config_lib.IMITATION, config_lib.TASK):
    undisturbed = config.disturbance_of(kind) == disturbances.NONE
    if not undisturbed and kind not in config.actors:
      raise ValueError(
        f'{kind}.disturbance is set, but the run has no {kind} actors; expected none'
      )
    for factor in disturbances.FACTORS:
      name = f'{kind}.disturbance.{factor}'
      if values[name] != 1:
        raise ValueError(
          f'{name} is {values[name]}; expected 1: all training episodes of an actor '
          'share one model'
        )
  look_ahead = config.imitation.look_ahead
  if not look_ahead or min(look_ahead) < 1:
    raise ValueError(f'imitation.look_ahead is {look_ahead}; expected steps >= 1')
  check_pixels(config)
  if not config.demonstrations:
    raise ValueError(
      'demonstrations is empty; expected the path of an HDF5 file '
      '(python -m metamimic.record makes one)'
    )
  if config_lib.IMITATION in config.learners:
    _check_dense_returns('', config.d4pg)
  if config.learners == (config_lib.IMITATION, config_lib.TASK) and config.borrowed:
    _validate_start_after(config)


def _validate_task(config: config_lib.Config) -> None:
  """Checks who learns the task, and from what."""
  if config.task.learn and config.algorithm != 'metamimic':
    raise ValueError(
      f'task.learn is set with the algorithm {config.algorithm}; expected metamimic '
      '(d4pg and d4pgfd learn the task by themselves)'
    )
  if config.task.is_dense:
    if config.algorithm != 'd4pg':
      raise ValueError(
        f'task.reward is dense with the algorithm {config.algorithm}; expected d4pg: '
        'what imitation actors and demonstrations write has the sparse reward'
      )
    _check_dense_returns('task.', config.task.d4pg)
  if config.algorithm == 'd4pgfd' and not config.borrowed:
    raise ValueError(
      f'task.demonstration_share is {config.task.demonstration_share} of batches of '
      f'{config.task.d4pg.batch_size}, which is none; expected some with d4pgfd'
    )
  if config_lib.TASK in config.learners and not config.task.is_dense:
    _check_returns('task.', config.task.d4pg, 1.0, 'the sparse reward returns')
  if config.imitates_itself(config_lib.TASK):
    if not config.task.learn:
      raise ValueError(
        'task.learner is self_imitation; expected d4pg, or task.learn with the '
        'algorithm metamimic'
      )
    if config.task.components < 2:
      raise ValueError(
        f'task.components is {config.task.components}; expected 2 or more'
      )


def _check_returns(
  prefix: str, d4pg: config_lib.D4PGConfig, most: float, why: str
) -> None:
  if d4pg.v_min > 0 or d4pg.v_max < most * (1 - 1e-6):  # 1 / (1 - .9) is more than 10.
    raise ValueError(
      f'{prefix}d4pg.v_min and v_max are {d4pg.v_min} and {d4pg.v_max}; expected 0 or '
      f'less, and {most:.6g} or more, which {why}'
    )


def _check_dense_returns(prefix: str, d4pg: config_lib.D4PGConfig) -> None:
  """Refuses atoms that returns of rewards in [0, 1] at each step go beyond.

  They would be cut off, and with them what tells good actions from better ones. An
  episode that is over in time has not ended for a learner, to whom the value of its
  last state counts, too.
  """
  if d4pg.discount == 1:
    raise ValueError(
      f'{prefix}d4pg.discount is 1; expected less, with a reward at each step'
    )
  most = 1 / (1 - d4pg.discount)
  why = f'rewards of 1 return with {prefix}d4pg.discount {d4pg.discount}'
  _check_returns(prefix, d4pg, most, why)


def check_pixels(config: config_lib.Config, where: str = '') -> None:
  """Refuses pictures that cannot be, or that are too large to be meant.

  Args:
    config: of a run.
    where: how the message begins.

  Raises:
    ValueError: the message names the field, its value and what was expected.
  """
  pixels, network = config.pixels, config.network
  if not pixels.cameras:
    return
  try:
    pictures.Pictures(pixels.cameras)
  except ValueError as e:
    raise ValueError(f'{where}pixels.cameras: {e}') from None
  residual = network.torso == 'residual'
  # Its pictures are filled up at their edges.
  smallest = 1 if residual else smallest_picture(len(network.filters))
  if not smallest <= pixels.size <= _LARGEST:
    raise ValueError(
      f'{where}pixels.size is {pixels.size}; expected {smallest} to {_LARGEST}'
    )
  if not pixels.look_ahead or min(pixels.look_ahead) < 1:
    raise ValueError(
      f'{where}pixels.look_ahead is {pixels.look_ahead}; expected steps >= 1'
    )
  if not pixels.decoding_weight >= 0:
    raise ValueError(
      f'{where}pixels.decoding_weight is {pixels.decoding_weight}; expected 0 or more'
    )
  if not 0 <= pixels.shift < pixels.size:
    raise ValueError(
      f'{where}pixels.shift is {pixels.shift}; expected 0 or more, and less than '
      f'pixels.size ({pixels.size})'
    )
  if pixels.blind and pixels.goal == 'pictures':
    raise ValueError(
      f'{where}pixels.blind is set with pixels.goal pictures; expected one of them: '
      'nothing of the goal would be left'
    )
  if min((*network.filters, network.embedding), default=0) < 1 or not network.filters:
    raise ValueError(
      f'{where}network.filters and embedding are {network.filters} and '
      f'{network.embedding}; expected numbers above 0'
    )
  if network.torso_blocks < 0:
    raise ValueError(
      f'{where}network.torso_blocks is {network.torso_blocks}; expected 0 or more'
    )
  decodes = config.shows and pixels.goal == 'pictures' and pixels.decoding_weight
  if residual and decodes:
    raise ValueError(
      f'{where}pixels.decoding_weight is {pixels.decoding_weight} with network.torso '
      'residual; expected 0: what decodes is an encoder that policy and critic share'
    )
  in_hand = [name for name, camera in pictures.CAMERAS.items() if camera.in_hand]
  if config.imitation.relative and not set(in_hand) & set(pixels.cameras):
    raise ValueError(
      f'{where}pixels.cameras are {pixels.cameras} with imitation.relative; expected '
      f'one of {in_hand} among them: only a wrist camera shows where objects are to '
      'the hand'
    )


def picture_left(config: config_lib.Config) -> int:
  """Returns the height, or width, of what convolutions leave of a picture."""
  size = config.pixels.size
  if config.network.torso == 'residual':
    for _ in config.network.filters:
      size = -(-size // 2)
    return size
  size //= 4
  for _ in config.network.filters[1:]:
    size = (size - 1) // 2
  return size


def smallest_picture(convolutions: int) -> int:
  """Returns the smallest size of a picture of which convolutions leave something."""
  size = 1
  for _ in range(convolutions - 1):
    size = 2 * size + 1
  return 4 * size


def check_trusted(where: str, name: str, given: str | None, option: str) -> None:
  """Refuses to run code that a run names, and its user does not.

  Args:
    where: the run.
    name: of its reward; empty: its task's.
    given: what the user calls it; None: nothing.
    option: with which that is said.

  Raises:
    ValueError: the reward is not of `envs.reward_library`, and the user does not name
      it.
  """
  trusted = not name or name.startswith(reward_library.PREFIX)
  if not trusted and given != name:
    raise ValueError(
      f'{where}: its reward is {name!r}, and importing it runs code; expected '
      f'{option} {name} from whoever trusts it'
    )


def _positive(values: Mapping[str, Any], name: str) -> None:
  if not values[name] > 0:
    raise ValueError(f'{name} is {values[name]}; expected a number above 0')


def _not_negative(values: Mapping[str, Any], name: str) -> None:
  if not values[name] >= 0:
    raise ValueError(f'{name} is {values[name]}; expected 0 or more')


def _share(values: Mapping[str, Any], name: str) -> None:
  if not 0 <= values[name] <= 1:
    raise ValueError(f'{name} is {values[name]}; expected a number in [0, 1]')


def _validate_learning(values: Mapping[str, Any], prefix: str) -> None:
  """Checks learner, replay and actors of one policy."""
  d4pg, replay, actor = (f'{prefix}{part}.' for part in ('d4pg', 'replay', 'actor'))
  for name in (
    *(f'{d4pg}{n}' for n in ('n_step', 'batch_size', 'critics', 'steps_per_call')),
    *(f'{d4pg}{n}_learning_rate' for n in ('policy', 'critic', 'encoder')),
    f'{d4pg}target_update_period',
    *(f'{replay}{n}' for n in ('max_size', 'min_size', 'samples_per_insert')),
    *(f'{actor}{n}' for n in ('num_actors', 'environments')),
  ):
    _positive(values, name)
  for name in (
    *(f'{d4pg}{n}' for n in ('target_noise', 'cloning_weight', 'averaged_steps')),
    *(f'{d4pg}{n}' for n in ('gradient_clip', 'action_gradient_clip')),
    *(f'{actor}{n}' for n in ('sigma', 'random_steps', 'update_period')),
  ):
    _not_negative(values, name)
  factors = values[f'{actor}sigma_factors']
  if not factors or min(factors) < 0:
    raise ValueError(
      f'{actor}sigma_factors is {factors}; expected one or more numbers, 0 or more'
    )
  for name in ('discount', 'target_update_rate'):
    _share(values, d4pg + name)
  _positive(values, f'{d4pg}target_update_rate')
  v_min, v_max = values[f'{d4pg}v_min'], values[f'{d4pg}v_max']
  if v_max <= v_min:
    raise ValueError(
      f'{d4pg}v_max is {v_max}; expected more than {d4pg}v_min ({v_min})'
    )
  if values[f'{d4pg}num_atoms'] < 2:
    raise ValueError(
      f'{d4pg}num_atoms is {values[f"{d4pg}num_atoms"]}; expected at least 2'
    )
  reset_at = values[f'{d4pg}reset_at']
  steps = values[f'{prefix}learner_steps']
  if not (0 <= reset_at < 1 and round(reset_at * steps) < steps):
    raise ValueError(
      f'{d4pg}reset_at is {reset_at}; expected 0 or more, and some of the {steps} '
      'learner steps left'
    )
  min_size, max_size = values[f'{replay}min_size'], values[f'{replay}max_size']
  if min_size > max_size:
    raise ValueError(
      f'{replay}min_size is {min_size}; expected at most {replay}max_size ({max_size})'
    )


def _validate_start_after(config: config_lib.Config) -> None:
  # Else the task's learner would wait for ever.
  sampled = config.learner_steps * config.d4pg.batch_size
  written = int(config.replay.min_size + sampled / config.replay.samples_per_insert)
  most = min(written, config.replay.max_size)
  if config.task.start_after > 0.9 * most:
    raise ValueError(
      f'task.start_after is {config.task.start_after}; expected less than nine tenths '
      f'of the {most} transitions that imitation actors leave in replay after '
      f'{config.learner_steps} learner steps'
    )
