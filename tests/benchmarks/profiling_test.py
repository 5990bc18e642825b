"""Tests of benchmarks.profiling."""

from collections.abc import Iterator
import pathlib
import subprocess
import sys
import time
from typing import Any

import pandas as pd
import pytest

from benchmarks import profiling
from metamimic import presets

_MAIN = '_run_module_as_main (runpy.py:196);main (/x/launch_configs/entry.py:9)'


def test_a_look_counts_for_the_innermost_file_that_is_known() -> None:
  stacks = [
    f'{_MAIN};_step (agents/actors.py:3);advance (envs/stepping.py:9);step (m.py:1) 6',
    f'{_MAIN};_step (/x/agents/actors.py:4);__call__ (/x/envs/rewards.py:8) 2',
    f'{_MAIN};_step (agents/actors.py:5) 1',
    f'{_MAIN};run (agents/learning.py:5);step (agents/off_policy.py:9);x (t.py:2) 0',
    f'{_MAIN};add (agents/adders.py:5);flush (agents/adders.py:9);wait (reverb.py:2) 1',
    '_bootstrap (threading.py:973);_read (agents/sampling.py:152) 90',
  ]
  assert profiling.parts(stacks) == {
    'else': 0.1,
    'physics': 0.6,
    'reward': 0.2,
    'updates': 0.0,
    'writing': 0.1,
  }


def test_every_part_is_a_file_and_every_setting_a_preset() -> None:
  checkout = pathlib.Path(__file__).resolve().parents[2]
  assert all((checkout / file).is_file() for file in profiling.PARTS)
  assert {preset for preset, _ in profiling.SETTINGS.values()} <= set(presets.PRESETS)


def test_rates_are_per_second_of_whom_it_takes() -> None:
  rows = pd.DataFrame(
    [
      ('a', 'actor-0', 'physics', 0.6, 10.0),
      ('a', 'actor-0', 'reward', 0.4, 10.0),
      ('a', 'actor-1', 'physics', 1.0, 30.0),
      ('a', 'learner-0', 'updates', 1.0, 60.0),
    ],
    columns=['setting', 'process', 'part', 'share', 'cpu_seconds'],
  ).assign(seconds=50.0, learner_steps=300, environment_steps=2000)
  (found,) = profiling.rates(rows).to_dict('records')
  assert found == {
    'learner steps / s': 6.0,
    'environment steps / s': 40.0,
    'learner steps / CPU s': 5.0,
    'environment steps / CPU s': 50.0,
    'actor': 0.4,
    'learner': 0.6,
    'evaluator': 0.0,
    'replay': 0.0,
  }


class _Run:
  """A run of one actor, which writes all the time."""

  def __init__(self, folder: pathlib.Path) -> None:
    self.dir = folder / 'run'
    (self.dir / 'logs').mkdir(parents=True)
    for log, column in (('learner-imitation', 'learner'), ('actor-0', 'environment')):
      (self.dir / 'logs' / f'{log}.csv').write_text(f'{column}_steps\n7\n')
    code = folder / 'agents'
    code.mkdir()
    (code / '__init__.py').touch()
    (code / 'adders.py').write_text('print(1, flush=True)\nwhile True: pass\n')
    self.process = subprocess.Popen(
      [sys.executable, '-m', 'agents.adders'], cwd=folder, stdout=subprocess.PIPE
    )
    assert self.process.stdout is not None and self.process.stdout.readline()

  def pids(self) -> dict[str, int]:
    """Of its nodes."""
    return {'actor-0': self.process.pid, 'launcher': 1}


@pytest.fixture(name='run')
def run_fixture(tmp_path: pathlib.Path) -> Iterator[Any]:
  run = _Run(tmp_path)
  yield run
  run.process.kill()
  run.process.wait()


def test_a_process_is_looked_into(run: Any) -> None:
  begun = time.monotonic()
  try:
    (row,) = profiling.measure(run, 'busy', 2.0)
  except RuntimeError as e:
    if 'ermission' in str(e):
      pytest.skip('this machine does not let a process look into another one')
    raise
  assert (row.setting, row.process, row.part) == ('busy', 'actor-0', 'writing')
  assert row.share == 1.0
  assert 0 < row.cpu_seconds <= time.monotonic() - begun
  assert (row.learner_steps, row.environment_steps) == (0, 0)


def test_all_learners_have_to_have_begun(run: Any) -> None:
  logs = run.dir / 'logs'
  run.pids = lambda: {'learner-0': 1, 'learner-1': 2, 'actor-0': 3}
  three = 'learner_steps\n1\n2\n'
  (logs / 'learner-imitation.csv').write_text(three)
  assert not profiling.learns(run)
  for text, begun in (('', False), ('learner_steps\n1\n', False), (three, True)):
    (logs / 'learner-task.csv').write_text(text)
    assert profiling.learns(run) == begun


def test_a_process_that_is_gone_is_named(run: Any) -> None:
  looker = profiling._look(2**22 - 1, 1.0, run.dir / 'out')
  output = looker.communicate()[0]
  assert looker.returncode != 0 and output
  run.pids = lambda: {'actor-0': 2**22 - 1}
  with pytest.raises(RuntimeError, match=r'^actor-0 cannot be looked into: '):
    next(profiling.measure(run, 'busy', 1.0))


def test_settings_that_are_not_there_are_refused(tmp_path: pathlib.Path) -> None:
  arguments = profiling.Arguments(output_dir=str(tmp_path), settings=('laptop', 'x'))
  with pytest.raises(ValueError, match=r"settings are \['x'\]; expected some of"):
    next(profiling.watch(arguments))
