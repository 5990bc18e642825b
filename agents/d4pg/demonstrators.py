"""Demonstrations as experience, with their actions: what D4PGfD keeps in replay.

Vecerik et al. 2017 keep them for ever beside the agent's own; so does this table.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import dm_env
import numpy as np
import reverb

from agents import adders
from agents import replay
from envs import imitation
from envs import observations
from metamimic.demonstrations import types


class Seen(Protocol):
  """What is seen of a demonstration."""

  @property
  def observations(self) -> Mapping[str, np.ndarray]:
    """By group, (T + 1, ...)."""


def num_transitions(demonstrations: types.DemonstrationSet) -> int:
  """Returns how many transitions `write` writes."""
  return sum(_length(demonstrations.demonstrations[i]) for i in demonstrations.train)


def write(
  client: reverb.Client,
  codec: replay.Codec,
  demonstrations: types.DemonstrationSet,
  should_stop: Callable[[], bool],
  see: Callable[[], Sequence[Seen]] | None = None,
) -> None:
  """Writes the training demonstrations, each up to its first success.

  A table that is full already, as after a resume, is left as it is.

  Args:
    client: of the replay server.
    codec: that packs the rows.
    demonstrations: loaded with their actions.
    should_stop: asked while the server takes nothing.
    see: returns the same demonstrations with the pictures that the codec wants; None:
      it wants none.

  Raises:
    ActionsNotAvailable: the demonstrations have no actions.
    waiting.Stopped: `should_stop` said so.
  """
  number = num_transitions(demonstrations)

  def is_full() -> bool:
    info = replay.wait_for_info(client, should_stop)
    return info[replay.DEMONSTRATIONS].current_size == number

  # Again, should the server have died meanwhile: it then has lost what came first.
  while not is_full():
    writer = _writer(client, codec, should_stop)
    seen = see() if see else demonstrations.demonstrations
    for i in demonstrations.train:
      demonstration = demonstrations.demonstrations[i]
      _write(adders.StepAdder(writer), demonstration, seen[i])
    writer.flush()


def _writer(
  client: reverb.Client, codec: replay.Codec, should_stop: Callable[[], bool]
) -> adders.Writer | adders.PictureWriter:
  if codec.pictures is None:
    return adders.Writer(client, codec, (replay.DEMONSTRATIONS,), should_stop)
  tables = {replay.DEMONSTRATIONS: codec.n}
  return adders.PictureWriter(client, codec, tables, 1, should_stop)


def _length(demonstration: types.Demonstration) -> int:
  """Returns its steps up to the first success, that one included."""
  solved = np.flatnonzero(demonstration.rewards)
  return int(solved[0]) + 1 if len(solved) else demonstration.num_steps


def _write(
  adder: adders.StepAdder, demonstration: types.Demonstration, seen: Seen
) -> None:
  def observation(t: int) -> dict[str, np.ndarray]:
    groups = {group: v[t] for group, v in seen.observations.items()}
    return {**groups, imitation.GOAL: np.zeros(2, np.int32)}

  adder.add_first(observations.restart(observation(0)))
  length = _length(demonstration)
  for t in range(length):
    solved = demonstration.rewards[t]
    last = t == length - 1
    timestep = dm_env.TimeStep(
      dm_env.StepType.LAST if last else dm_env.StepType.MID,
      {imitation.IMITATION: np.float32(0), imitation.TASK: solved},
      {imitation.IMITATION: np.float32(1), imitation.TASK: np.float32(1) - solved},
      observation(t + 1),
    )
    adder.add(demonstration.actions[t], timestep)
