"""The registry of tasks: dm_control.manipulation's Jaco arm, by name."""

from collections.abc import Sequence

from envs import pictures as pictures_lib
from envs import stepping
from envs import success

# The variant with the moveable base, because it keeps the pose of the base in the
# physics state; the other keeps it in the model.
_TWO_BRICKS = 'stack_2_bricks_moveable_base_features'

_ALL = (
  stepping.Task(
    'lift_brick',
    'lift_brick_features',
    ('brick',),
    {'lift': success.lifted('brick')},
    300,
  ),
  stepping.Task(
    'reach_duplo',
    'reach_duplo_features',
    ('duplo',),
    {'reach': success.duplo_reached},
    200,
  ),
  stepping.Task(
    'stack_2_bricks',
    _TWO_BRICKS,
    ('base', 'top'),
    {'stack': success.bricks_stacked},
    400,
  ),
  stepping.Task(
    'two_bricks',
    _TWO_BRICKS,
    ('base', 'top'),
    {
      'reach': success.hand_brought,
      'push': success.brick_pushed,
      'lift_top': success.lifted('top'),
      'lift_base': success.lifted('base'),
      'beside': success.top_beside,
      'unstack': success.top_unstacked,
      'wave': success.hand_waved,
      'stack': success.bricks_stacked,
    },
    400,
  ),
)

TASKS: dict[str, stepping.Task] = {task.name: task for task in _ALL}


def get(name: str) -> stepping.Task:
  """Returns the task called `name`.

  Raises:
    ValueError: there is none; the message lists those there are.
  """
  try:
    return TASKS[name]
  except KeyError:
    raise ValueError(f'no task {name!r}; there are {sorted(TASKS)}') from None


def load(
  name: str, seed: int, pictures: pictures_lib.Pictures | None = None
) -> stepping.ManipulationEnvironment:
  """Returns the environment of the task called `name`.

  Args:
    name: a name in `TASKS`.
    seed: of its random starts.
    pictures: to observe beside the features; None: none.

  Raises:
    RuntimeError: there are to be pictures, and this machine cannot render.
    ValueError: there is no such task.
  """
  return stepping.ManipulationEnvironment(get(name), seed, pictures=pictures)


def load_many(
  name: str, seeds: Sequence[int], pictures: pictures_lib.Pictures | None = None
) -> list[stepping.ManipulationEnvironment]:
  """Returns an environment for each seed; they share one compiled model.

  Args:
    name: a name in `TASKS`.
    seeds: of their random starts.
    pictures: to observe beside the features; None: none.

  Raises:
    RuntimeError: there are to be pictures, and this machine cannot render.
    ValueError: there is no such task.
  """
  first = load(name, seeds[0], pictures)
  others = [
    stepping.ManipulationEnvironment(get(name), seed, first, pictures)
    for seed in seeds[1:]
  ]
  return [first, *others]
