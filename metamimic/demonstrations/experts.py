"""Scripted demonstrators of the tasks, and the two kinds of people they stand for.

Training demonstrations come from `TRAIN_RANGE`. Held-out ones come from
`HELD_OUT_RANGE`: slower or faster, lower or higher, with wider detours than anything
seen in training, so that imitating them is more than recalling.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math

import numpy as np

from envs import scene as scene_lib
from envs import stepping
from metamimic.demonstrations import skills

Interval = tuple[float, float]
Start = Callable[[stepping.ManipulationEnvironment, np.random.Generator], None]
"""Prepares a fresh scene, before the demonstration begins."""


def _as_it_is(
  environment: stepping.ManipulationEnvironment, rng: np.random.Generator
) -> None:
  del environment, rng


@dataclasses.dataclass(frozen=True)
class Expert:
  """A scripted demonstrator of one skill."""

  act: Callable[[skills.Hand], skills.Actions]
  """Takes a hand in a scene and yields actions until the skill is done."""
  prepare: Start = _as_it_is
  """Makes the start that the skill needs, where it is not one of the task's own."""


_LIFT_HEIGHT = 0.22  # m, four times what counts as lifted
_CARRY_HEIGHT = 0.10  # m, enough to clear a brick with one held underneath
_BRICK_ON_STUDS = 0.0192 + 0.0046  # m between bottom faces of two bricks not clicked
_RELEASE = 0.004  # m above the studs
_LIFT_ONE_OF_TWO = 0.15  # m
_RELEASE_LOW = 0.002  # m above the table
_PUSH = 0.08  # m
_BESIDE = 0.095  # m between the bricks' middles
_TABLE = 0.13  # m; bricks are put so close to the middle of the table
_HALF_SIDES = (0.016, 0.032)  # m, from a brick's middle to its long and short sides
_WAVE_HEIGHT = 0.28  # m
_WAVE_WIDTH = 0.085  # m to either side
_SETTLE_STEPS = 8
_TRIES = 200


@dataclasses.dataclass(frozen=True)
class Range:
  """What a style is drawn from: each value from the union of some intervals."""

  speed: Sequence[Interval]
  hover: Sequence[Interval]
  lift: Sequence[Interval]
  pre_shape: Sequence[Interval]
  close_steps: Sequence[Interval]
  detour: Sequence[Interval]
  detour_probability: float
  pause_probability: float

  def sample(self, rng: np.random.Generator) -> skills.Style:
    """Draws a style, uniformly and each value by itself."""
    return skills.Style(
      speed=_draw(self.speed, rng),
      hover=_draw(self.hover, rng),
      lift=_draw(self.lift, rng),
      pre_shape=_draw(self.pre_shape, rng),
      close_steps=round(_draw(self.close_steps, rng)),
      detour=_draw(self.detour, rng),
      detour_probability=self.detour_probability,
      pause_probability=self.pause_probability,
    )


def _draw(intervals: Sequence[Interval], rng: np.random.Generator) -> float:
  lengths = np.array([high - low for low, high in intervals])
  low, high = intervals[rng.choice(len(intervals), p=lengths / lengths.sum())]
  return float(rng.uniform(low, high))


TRAIN_RANGE = Range(
  speed=((0.70, 0.95),),
  hover=((0.06, 0.09),),
  lift=((0.90, 1.10),),
  pre_shape=((0.60, 0.70),),
  close_steps=((24, 31),),
  detour=((0.03, 0.07),),
  detour_probability=0.3,
  pause_probability=0.3,
)
"""People seen in training."""

HELD_OUT_RANGE = Range(
  speed=((0.62, 0.70), (0.95, 1.10)),
  hover=((0.05, 0.06), (0.09, 0.11)),
  lift=((0.80, 0.90), (1.10, 1.20)),
  pre_shape=((0.54, 0.60), (0.70, 0.75)),
  close_steps=((32, 36),),
  detour=((0.07, 0.10),),
  detour_probability=0.3,
  pause_probability=0.3,
)
"""People kept for evaluation; no value lies within the training range."""

RANGES: Mapping[str, Range] = {'train': TRAIN_RANGE, 'valid': HELD_OUT_RANGE}
"""Split -> what its demonstrators' styles are drawn from."""


def lift_brick(hand: skills.Hand) -> skills.Actions:
  """Grasps the brick and lifts it some 20 cm."""
  yield from hand.approach('brick', _grasp_turn(hand, 'brick', ()))
  yield from hand.close('brick')
  yield from hand.lift('brick', _LIFT_HEIGHT)
  yield from hand.hold(6, skills.CLOSED)


def reach_duplo(hand: skills.Hand) -> skills.Actions:
  """Brings the open hand to where it could grasp the brick, and stays there."""
  yield from hand.approach('duplo', _grasp_turn(hand, 'duplo', ()))
  yield from hand.hold(8, None)


def stack_2_bricks(hand: skills.Hand) -> skills.Actions:
  """Puts the top brick on the base, parallel or crosswise, and lets go."""
  scene = hand.scene
  yield from _pick_up_top(hand, _grasp_turn(hand, 'top', ('base',)))
  yield from hand.place(
    'top',
    lambda: skills.above(scene.object_position('base'), _BRICK_ON_STUDS),
    lambda: skills.yaw_of(scene.object_orientation('base')),
    math.pi / 2,
    _RELEASE,
  )


def reach(hand: skills.Hand) -> skills.Actions:
  """Brings the open hand to a point above the table, and stays there."""
  start = hand.scene.pinch_position
  for _ in range(_TRIES):
    point = hand.rng.uniform([-0.1, -0.1, 0.1], [0.1, 0.1, 0.25])
    if math.dist(point, start) > 0.13:
      break
  hand.phase = 'reach'
  yield from hand.maybe_detour(None, height=0.10)
  yield from hand.go(point, hand.yaw, None, max_steps=80, angle=math.inf)
  yield from hand.hold(10, None)


def push(hand: skills.Hand) -> skills.Actions:
  """Pushes whichever brick has most room, square on one of its sides."""
  scene = hand.scene
  options = []
  for name, other in (('top', 'base'), ('base', 'top')):
    facing = skills.yaw_of(scene.object_orientation(name))
    for quarter in range(4):
      half = _HALF_SIDES[quarter % 2]
      direction = facing + quarter * math.pi / 2
      along = np.array([math.cos(direction), math.sin(direction)])
      way = np.linspace(-0.10, _PUSH * hand.style.lift + half, 12)[:, None] * along
      way += scene.object_position(name)[:2]
      room = _distances(scene, other, way).min()
      cost = 20 * max(0.06 - room, 0) + 30 * max(0, abs(way[-1]).max() - 0.16)
      turn = abs(skills.wrap(direction - hand.yaw, math.pi))
      cost += 0.02 * turn + 0.15 * (quarter % 2)
      options.append((cost, name, direction, half))
  _, name, direction, half = min(options)
  yield from hand.push(name, direction, half, _PUSH)


def lift_top(hand: skills.Hand) -> skills.Actions:
  """Grasps the top brick and lifts it some 15 cm."""
  yield from _lift_one(hand, 'top', 'base')


def lift_base(hand: skills.Hand) -> skills.Actions:
  """Grasps the base and lifts it some 15 cm."""
  yield from _lift_one(hand, 'base', 'top')


def _lift_one(hand: skills.Hand, name: str, other: str) -> skills.Actions:
  yield from hand.approach(name, _grasp_turn(hand, name, (other,)))
  yield from hand.close(name)
  yield from hand.lift(name, _LIFT_ONE_OF_TWO)
  yield from hand.hold(6, skills.CLOSED)


def beside(hand: skills.Hand) -> skills.Actions:
  """Puts the top brick on the table beside the base."""
  yield from _put_beside(hand, _grasp_turn(hand, 'top', ('base',)))


def unstack(hand: skills.Hand) -> skills.Actions:
  """Takes the top brick off the base and puts it on the table beside."""
  # By its ends: fingers along its sides take the base with them more often.
  yield from _put_beside(hand, _grasp_turn(hand, 'top', (), by_the_ends=True))


def _put_beside(hand: skills.Hand, turn: float) -> skills.Actions:
  spot = _spot_beside(hand)
  facing = skills.yaw_of(hand.scene.object_orientation('base'))
  yield from _pick_up_top(hand, turn)
  yield from hand.place('top', lambda: spot, lambda: facing, math.pi / 2, _RELEASE_LOW)


def _spot_beside(hand: skills.Hand) -> np.ndarray:
  """Returns where on the table the top brick can stand, but does not yet, m, (3,)."""
  scene = hand.scene
  base, top = scene.object_position('base')[:2], scene.object_position('top')[:2]
  for _ in range(_TRIES):
    angle = hand.rng.uniform(-math.pi, math.pi)
    spot = base + _BESIDE * np.array([math.cos(angle), math.sin(angle)])
    if abs(spot).max() < _TABLE and math.dist(spot, top) > 0.05:
      break
  return np.array([*spot, 0.0])


def _pick_up_top(hand: skills.Hand, turn: float) -> skills.Actions:
  yield from hand.approach('top', turn)
  yield from hand.close('top')
  yield from hand.lift('top', _CARRY_HEIGHT)
  yield from hand.maybe_pause(skills.CLOSED)
  yield from hand.maybe_detour(skills.CLOSED, height=0.10)


def rest_on_studs(
  environment: stepping.ManipulationEnvironment, rng: np.random.Generator
) -> None:
  """Puts the top brick on the base's studs, parallel or crosswise, not clicked."""
  scene = environment.scene
  turn = rng.integers(2) * math.pi / 2 + rng.uniform(-0.1, 0.1)
  yaw = skills.yaw_of(scene.object_orientation('base')) + turn
  offset = np.array([*rng.uniform(-0.004, 0.004, 2), _BRICK_ON_STUDS])
  scene.place_object(
    'top',
    scene.object_position('base') + offset,
    np.array([math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)]),
  )
  still = np.zeros(environment.action_spec().shape)
  for _ in range(_SETTLE_STEPS):
    environment.advance(still)


def wave(hand: skills.Hand) -> skills.Actions:
  """Waves above the table."""
  x, y = hand.rng.uniform(-0.05, 0.05, 2)
  yield from hand.wave(np.array([x, y, _WAVE_HEIGHT]), _WAVE_WIDTH, swings=7)


EXPERTS: Mapping[str, Mapping[str, Expert]] = {
  'lift_brick': {'lift': Expert(lift_brick)},
  'reach_duplo': {'reach': Expert(reach_duplo)},
  'stack_2_bricks': {'stack': Expert(stack_2_bricks)},
  'two_bricks': {
    'reach': Expert(reach),
    'push': Expert(push),
    'lift_top': Expert(lift_top),
    'lift_base': Expert(lift_base),
    'beside': Expert(beside),
    'unstack': Expert(unstack, rest_on_studs),
    'wave': Expert(wave),
    'stack': Expert(stack_2_bricks),
  },
}
"""Task -> skill -> its demonstrator."""

# Points of a brick seen from above, m, in its own frame.
_OUTLINE = np.stack(
  np.meshgrid(np.linspace(-0.017, 0.017, 5), np.linspace(-0.033, 0.033, 9)), -1
).reshape(-1, 2)


def _grasp_turn(
  hand: skills.Hand, name: str, others: Sequence[str], by_the_ends: bool = False
) -> float:
  """Returns the rotation of the hand relative to an object at which to grasp it.

  Of the four along the object's sides: the one whose way for the fingers is clear of
  the others, then the one across the narrow side (or the other one, if it is to be
  grasped by its ends), then the least turn of the wrist.
  """
  scene = hand.scene
  facing = skills.yaw_of(scene.object_orientation(name))
  costs = []
  for quarter in range(4):
    turn = skills.wrap(facing + quarter * math.pi / 2 - hand.yaw, 2 * math.pi)
    blocked = sum(
      _points_in_the_way(scene, name, other, hand.yaw + turn, hand.style.pre_shape)
      for other in others
    )
    cost = 3.0 * (blocked > 0) + 0.06 * blocked + 0.3 * abs(turn)
    cost += 0.5 * (quarter % 2 != by_the_ends)
    costs.append((cost, quarter * math.pi / 2))
  return min(costs)[1]


def _points_in_the_way(
  scene: scene_lib.Scene, name: str, other: str, yaw: float, pre_shape: float
) -> int:
  """Counts points of `other` where the fingers pass that close on `name`."""
  turned = skills.yaw_of(scene.object_orientation(other))
  cos, sin = math.cos(turned), math.sin(turned)
  points = _OUTLINE @ np.array([[cos, sin], [-sin, cos]])
  points += (scene.object_position(other) - scene.object_position(name))[:2]
  cos, sin = math.cos(yaw), math.sin(yaw)
  x, y = points @ [cos, sin], points @ [sin, -cos]
  # Reach of a fingertip at this opening, from 8.3 cm wide open, with its thickness.
  reach = 0.041 + 0.058 * (1 - (pre_shape - 0.15) / 0.9)
  single = (x > 0.008) & (x < reach) & (y > -0.034) & (y < 0)
  pair = (x < -0.008) & (x > -reach) & (y > -0.062) & (y < 0.034)
  return int((single | pair).sum())


def _distances(scene: scene_lib.Scene, name: str, points: np.ndarray) -> np.ndarray:
  """Returns how far points, (n, 2), are from a brick's sides seen from above, m."""
  turned = skills.yaw_of(scene.object_orientation(name))
  cos, sin = math.cos(turned), math.sin(turned)
  offsets = (points - scene.object_position(name)[:2]) @ [[cos, -sin], [sin, cos]]
  outside = np.maximum(abs(offsets) - _HALF_SIDES, 0)
  return np.hypot(outside[:, 0], outside[:, 1])
