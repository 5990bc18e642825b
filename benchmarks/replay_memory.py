"""Memory that a step with pictures takes in replay: ours, and Acme's adder's.

    python -m benchmarks.replay_memory

Both are given the steps of the same demonstrations, with pictures of 84 × 84 pixels of
one camera, as transitions of as many steps, each through its own writer to a server in
a process of its own. What the server's resident memory has grown by is divided by the
steps. The goal is there by reference in both; Acme's would else be a good deal larger.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import os
import sys
import tempfile
from typing import Any

from acme import adders as acme_adders
from acme import specs
import dm_env
import numpy as np
import psutil
import reverb
import tyro

from agents import adders
from agents import replay
from benchmarks import acme_replay
from benchmarks import common
from envs import imitation
from envs import observations
from envs import pictures
from metamimic import config as config_lib
from metamimic.demonstrations import frames
from metamimic.demonstrations import storage

OURS, ACME = 'ours', 'acme'
PICTURES = pictures.Pictures(('front',), 84, 84)
"""One camera, at 84 x 84 pixels."""
LAYOUT = observations.Layout((), PICTURES)
"""Of what sees these."""
_CONFIG = dataclasses.replace(
  config_lib.Config(),
  pixels=config_lib.PixelsConfig(cameras=PICTURES.cameras, size=84),
)


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Measures the memory of a step in replay."""

  demonstrations: str = 'data/lift_brick.hdf5'
  """File of demonstrations, whose steps are written."""
  episodes: int = 40
  """Demonstrations that are written once, and then measured, once more."""
  output: str = f'{common.RESULTS}/benchmark_replay_memory.csv'
  """File of the results."""


def steps(seen: Sequence[frames.Seen]) -> Iterator[dm_env.TimeStep]:
  """Yields the timesteps of demonstrations as those of an imitation environment."""
  for index, demonstration in enumerate(seen):
    groups = demonstration.observations
    last = len(demonstration.states) - 1
    for t in range(last + 1):
      observation = {group: groups[group][t] for group in LAYOUT.spec()}
      observation[imitation.GOAL] = np.array([index, t], np.int32)
      keys = (imitation.IMITATION, imitation.TASK)
      ends = dm_env.StepType.LAST if t == last else dm_env.StepType.MID
      yield dm_env.TimeStep(
        ends if t else dm_env.StepType.FIRST,
        dict.fromkeys(keys, np.float32(0.5)),
        dict.fromkeys(keys, np.float32(1)),
        observation,
      )


def write(adder: acme_adders.Adder, timesteps: Iterator[dm_env.TimeStep]) -> int:
  """Writes timesteps; returns how many steps these are."""
  rng, written = np.random.default_rng(0), 0
  for timestep in timesteps:
    if timestep.first():
      adder.add_first(timestep)
    else:
      adder.add(rng.uniform(-1, 1, 9).astype(np.float32), timestep)
      written += 1
  adder.reset()
  return written


class _OneReward(acme_adders.Adder):
  """Gives Acme's adder imitation's reward alone, as it takes but one."""

  def __init__(self, adder: acme_adders.Adder):
    self._adder = adder

  def add_first(self, timestep: dm_env.TimeStep) -> None:
    self._adder.add_first(timestep)

  def add(self, action: Any, next_timestep: dm_env.TimeStep, extras: Any = ()) -> None:
    name = imitation.IMITATION
    reward, discount = next_timestep.reward[name], next_timestep.discount[name]
    timestep = next_timestep._replace(reward=reward, discount=discount)
    self._adder.add(action, timestep, extras)

  def reset(self) -> None:
    self._adder.reset()


def _our_tables() -> list[reverb.Table]:
  codec = replay.codec(LAYOUT, _CONFIG)
  (table,) = replay.tables(codec, _CONFIG, demonstrated=0)
  return [acme_replay.unthrottled(table)]


def _our_adder(client: reverb.Client) -> acme_adders.Adder:
  codec, n = replay.codec(LAYOUT, _CONFIG), _CONFIG.d4pg.n_step
  tables = {replay.IMITATION: n}
  return adders.StepAdder(adders.PictureWriter(client, codec, tables, 1, lambda: False))


def _acme_spec() -> specs.EnvironmentSpec:
  spec = replay.spec(LAYOUT)
  return spec._replace(
    rewards=spec.rewards[imitation.IMITATION],
    discounts=spec.discounts[imitation.IMITATION],
  )


def _acme_tables(signature: Any) -> list[reverb.Table]:
  return [acme_replay.table(signature, _CONFIG.replay.max_size)]


def _acme_adder(client: reverb.Client) -> acme_adders.Adder:
  d4pg = _CONFIG.d4pg
  return _OneReward(
    acme_replay.NStepTransitionAdder(client, d4pg.n_step, d4pg.discount)
  )


def main(arguments: Arguments) -> int:
  """Measures, writes and prints; returns the exit status."""
  signature = acme_replay.signature(_acme_spec())
  arms: dict[str, tuple[Any, Any]] = {
    OURS: (_our_tables, _our_adder),
    ACME: (functools.partial(_acme_tables, signature), _acme_adder),
  }
  found = storage.load(arguments.demonstrations)
  chosen = [found.demonstrations[i] for i in found.train[: 2 * arguments.episodes]]
  rows = []
  with tempfile.TemporaryDirectory() as folder:
    seen = frames.load(chosen, frames.draw(chosen, PICTURES, folder))
    for name, (tables, adder) in arms.items():
      with common.server(tables) as server:
        client = reverb.Client(server.address)
        # First of all it takes what any server takes.
        write(adder(client), steps(seen[: arguments.episodes]))
        before = psutil.Process(server.pid).memory_info().rss
        written = write(adder(client), steps(seen[arguments.episodes :]))
        taken = psutil.Process(server.pid).memory_info().rss - before
        rows.append(
          {'arm': name, 'steps': written, 'bytes_per_step': round(taken / written, 1)}
        )
        print(f'{name}: {taken / written:,.0f} bytes a step', flush=True)
  common.write(arguments.output, rows)
  return common.report([common.replay_memory(rows)])


if __name__ == '__main__':
  try:
    common.leave(main(tyro.cli(Arguments, description=__doc__)))
  except (OSError, ValueError, RuntimeError) as e:
    sys.exit(f'error: {os.path.basename(__file__)}: {e}')
