"""What can go wrong in an episode: named, of a given strength, and seeded.

Open-loop replay and a tracker are hard to beat where nothing does. (Ours.)
"""

import collections
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from envs import stepping

FACTORS = ('mass', 'friction')
"""Fields that are factors, and 1 where nothing is disturbed."""


@dataclasses.dataclass(frozen=True)
class Disturbance:
  """How much of each; 0, or a factor of 1, is none."""

  displacement: float = 0.0
  """Each object is this far, in m, from where it was to start, in any direction."""
  turn: float = 0.0
  """Each object is turned at the start, about the vertical, by up to this, in rad, to
  either side."""
  push: float = 0.0
  """Velocity, in m/s, that a push gives an object, in any horizontal direction; there
  are pushes at random times, one in two seconds on average."""
  action_noise: float = 0.0
  """Standard deviation of noise on each action, of full scale 1."""
  action_delay: int = 0
  """Control steps by which actions come late."""
  observation_noise: float = 0.0
  """Standard deviation, in m, of noise on the positions that a policy sees; that on
  angles and orientations is ten times as much, in rad. They are not made consistent."""
  mass: float = 1.0
  """Factor on the objects' masses."""
  friction: float = 1.0
  """Factor on the friction of objects, and of what they touch."""

  def __post_init__(self) -> None:
    """Refuses what cannot be.

    Raises:
      ValueError: a strength is negative, or a factor not above 0.
    """
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if not value >= 0 or (field.name in FACTORS and value == 0):
        least = 'a number above 0' if field.name in FACTORS else '0 or more'
        raise ValueError(f'disturbance.{field.name} is {value}; expected {least}')


NONE = Disturbance()
_PUSHES_PER_STEP = 0.02
_TRIES = 100
_TOUCH = 1e-3  # m; bricks at rest reach so deep into the table.
# Of the observation's fields: noise in m for each m, in rad for each m.
_NOISY = {
  'position': 1.0,
  'pinch_position': 1.0,
  'orientation': 5.0,  # A quaternion changes by half of a small angle.
  'pinch_rotation': 10.0,
  'fingers': 10.0,
  'arm_cos': 10.0,
  'arm_sin': 10.0,
}


class Disturber:
  """Disturbs the episodes of one environment."""

  def __init__(
    self,
    environment: stepping.ManipulationEnvironment,
    disturbance: Disturbance,
    seed: int,
    share: float | None = None,
  ):
    """Starts undisturbed.

    Args:
      environment: where to.
      disturbance: what and how much.
      seed: of all that is random.
      share: if given, each kind is met in this share of the episodes alone, and its
        strength is drawn uniformly up to what it says; mass and friction are as they
        are. An object for which there is no place is then left where it is.
    """
    self._environment = environment
    self._strongest = self._disturbance = disturbance
    self._share = share
    self._rng = np.random.default_rng(seed)
    self._deviations = self._make_deviations()
    self._late: collections.deque[np.ndarray] = collections.deque()

  def begin(self, seed: int | None = None) -> dict[str, np.ndarray]:
    """Begins an episode in the environment's present state.

    An object is left where it is if it is in contact with the hand or another object.

    Args:
      seed: if given, of all that is random in it.

    Returns:
      The observation.
    """
    if seed is not None:
      self._rng = np.random.default_rng(seed)
    if self._share is not None:
      self._disturbance = self._draw(self._share)
    disturbance = self._disturbance
    still = np.zeros(self._environment.action_spec().shape, np.float32)
    self._late = collections.deque([still] * disturbance.action_delay)
    if disturbance.displacement or disturbance.turn:
      self._displace()
    return self._environment.observe()

  def _draw(self, share: float) -> Disturbance:
    drawn: dict[str, Any] = {}
    for field in dataclasses.fields(Disturbance):
      if field.name in FACTORS or self._rng.random() >= share:
        continue
      most = getattr(self._strongest, field.name)
      if isinstance(field.default, int):
        drawn[field.name] = int(self._rng.integers(most + 1))
      else:
        drawn[field.name] = self._rng.uniform(0, most)
    return Disturbance(**drawn)

  def _displace(self) -> None:
    """Moves the objects, but not into each other or the hand."""
    environment, disturbance = self._environment, self._disturbance
    scene = environment.scene
    movable = [name for name in environment.task.objects if scene.apart(name)]
    before = environment.get_state()
    # What is held fast reaches deeper into the fingers than what only lies there.
    deepest = max(_TOUCH, scene.penetration())
    for _ in range(_TRIES if movable else 0):
      for name in movable:
        offset = disturbance.displacement * _direction(self._rng)
        turn = self._rng.uniform(-1, 1) * disturbance.turn
        scene.move_object(name, offset, turn)
      if scene.penetration() <= deepest:
        # What counts as moved is judged from where objects are now.
        environment.begin()
        return
      environment.set_state(before)
    if self._share is not None or not movable:
      return
    raise RuntimeError(
      f'{environment.task.name}: no place for the objects {disturbance.displacement} m '
      f'from where they were, in {_TRIES} tries'
    )

  def act(self, action: np.ndarray) -> np.ndarray:
    """Returns the action that reaches the arm; may push an object."""
    disturbance = self._disturbance
    if disturbance.push and self._rng.random() < _PUSHES_PER_STEP:
      name = str(self._rng.choice(self._environment.task.objects))
      velocity = disturbance.push * _direction(self._rng)
      self._environment.scene.push_object(name, velocity)
    if disturbance.action_noise:
      noise = self._rng.standard_normal(action.shape)
      action = action + disturbance.action_noise * noise
    self._late.append(action)
    return self._late.popleft()

  def sense(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the observation that a policy gets; pictures are as they are."""
    strength = np.float32(self._disturbance.observation_noise)
    if not strength:
      return observation
    noisy = {
      group: observation[group]
      + strength * deviations * self._rng.standard_normal(deviations.shape, np.float32)
      for group, deviations in self._deviations.items()
    }
    return {**observation, **noisy}

  def _make_deviations(self) -> dict[str, np.ndarray]:
    """Returns the deviation of each number of each group, for noise of 1."""
    layout = self._environment.layout
    deviations = {g: np.zeros(n, np.float32) for g, n in layout.sizes.items()}
    for name in layout.fields:
      layout.get(deviations, name)[:] = _NOISY.get(name.rpartition('/')[2], 0.0)
    return deviations


def make(
  environments: Sequence[stepping.ManipulationEnvironment],
  disturbance: Disturbance,
  seeds: Sequence[int],
  share: float | None = None,
) -> list[Disturber]:
  """Returns what disturbs each environment; objects get their mass and friction.

  Args:
    environments: they may share a model, and must not be disturbed already.
    disturbance: what and how much.
    seeds: one for each environment.
    share: as `Disturber` takes it.
  """
  scaled = []
  for environment in environments:
    model = environment.physics.model.ptr
    if model not in scaled:
      environment.scene.scale(disturbance.mass, disturbance.friction)
      scaled.append(model)
  return [
    Disturber(environment, disturbance, seed, share)
    for environment, seed in zip(environments, seeds, strict=True)
  ]


def _direction(rng: np.random.Generator) -> np.ndarray:
  """Returns a horizontal unit vector, (2,)."""
  angle = rng.uniform(-np.pi, np.pi)
  return np.array([np.cos(angle), np.sin(angle)])
