"""Tests of benchmarks.time_to_imitate."""

import pathlib

from benchmarks import time_to_imitate
from launch_configs import local
from metamimic import config as config_lib
from metamimic import presets
from metamimic import validation


def test_stock_settings_are_options_and_change_what_they_say() -> None:
  words = [w for k, v in time_to_imitate.STOCK.items() for w in (f'--{k}', v)]
  _, stock = local.parse(['--preset', 'laptop', *words])
  changed = {
    line.split(':')[0] for line in config_lib.differences(presets.LAPTOP, stock)
  }
  named = {k.replace('-', '_') for k in time_to_imitate.STOCK}
  assert changed == named
  assert (stock.d4pg.v_min, stock.d4pg.v_max) == (-150, 150)
  assert stock.actor.sigma_factors == (1.0,)
  validation.validate(
    config_lib.from_dict({**config_lib.to_dict(stock), 'demonstrations': 'x'})
  )


def test_evaluations_are_of_held_out_demonstrations_and_relative_to_replay(
  tmp_path: pathlib.Path,
) -> None:
  assert time_to_imitate.evaluations(tmp_path).empty
  (tmp_path / 'logs').mkdir()
  path = tmp_path / 'logs' / 'evaluator.csv'
  header = 'wall_time,learner_steps,arm,split,reward\n'
  path.write_text(header + '1,0,metamimic,valid,.3\n')
  assert time_to_imitate.evaluations(tmp_path).empty
  path.write_text(
    header
    + '1,0,replay,train,1\n1,0,replay,valid,.8\n1,0,zero,valid,.3\n'
    + '5,100,metamimic,train,.7\n5,100,metamimic,valid,.4\n9,200,metamimic,valid,.6\n'
  )
  found = time_to_imitate.evaluations(tmp_path)
  assert found['wall_time'].tolist() == [5, 9]
  assert found['learner_steps'].tolist() == [100, 200]
  assert found['ratio'].round(6).tolist() == [0.5, 0.75]
