"""Tests of benchmarks.network_study, on made-up results."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest

from benchmarks import experiments
from benchmarks import figures
from benchmarks import network_study
from benchmarks import tables
from launch_configs import local
from metamimic import config as config_lib
from metamimic import presets

_SIZED = {n: e for n, e in experiments.EXPERIMENTS.items() if e.sized}
_LAYERS, _TORSOS = (
  [name for name, experiment in _SIZED.items() if experiment.sized == part]
  for part in ('layers', 'torsos')
)


def _config(name: str) -> config_lib.Config:
  return local.parse([*_SIZED[name].all_arguments])[1]


def _write(folder: pathlib.Path, name: str, reward: float) -> None:
  """Writes an experiment's file: three seeds, two held-out episodes of each."""
  rows = [
    {
      'seed': seed,
      'learner_steps': 20_000,
      'arm': arm,
      'demonstration': f'demo_{i}',
      'split': split,
      'steps': 10,
      'completed': 1.0,
      'success': int(i),
      'total': reward + 0.01 * seed + 0.1 * (split == 'train'),
    }
    for seed in range(3)
    for arm in ('metamimic', 'wrong_demonstration')
    for split in ('valid', 'train')
    for i in range(2)
  ]
  pd.DataFrame(rows).to_csv(folder / f'{name}.csv', index=False)
  about = {'runs': {}, 'config': config_lib.to_dict(_config(name))}
  (folder / f'{name}.json').write_text(json.dumps(about))


@pytest.mark.parametrize('names', [_LAYERS, _TORSOS])
def test_runs_differ_in_their_networks_alone(names: list[str]) -> None:
  first, *others = (_config(name) for name in names)
  for config in others:
    changed = config_lib.differences(first, config)
    assert changed and all(line.startswith('network.') for line in changed)


def test_each_size_is_there_normalised_and_not() -> None:
  for names in (_LAYERS, _TORSOS):
    networks = [_config(name).network for name in names]
    assert len(networks) == len(set(networks))
    normalised = [n for n in networks if n.normalise]
    assert len(normalised) == len(networks) / 2
  assert all(len(_SIZED[name].seeds) >= 3 for name in (*_LAYERS, *_TORSOS))


def test_layers_are_as_wide_and_as_many_as_the_name_says() -> None:
  assert len(_LAYERS) == 8
  for name in _LAYERS:
    size, _, plain = name.removeprefix('lift_brick_network_').partition('_')
    width, blocks = map(int, size.split('x'))
    network = _config(name).network
    assert (network.policy_width, network.critic_width) == (width, width)
    assert (network.policy_blocks, network.critic_blocks) == (blocks, blocks)
    assert network.normalise == (not plain)


def test_torsos_are_those_of_the_presets_with_a_quarter_of_their_filters() -> None:
  assert len(_TORSOS) == 4
  for name in _TORSOS:
    whole = presets.LARGE_TORSOS if 'large' in name else presets.SMALL_TORSOS
    network = _config(name).network
    assert tuple(4 * filters for filters in network.filters) == whole.filters
    assert 4 * network.embedding == whole.embedding
    assert (network.torso, network.torso_blocks) == ('residual', whole.torso_blocks)


def test_what_has_been_run_is_shown(tmp_path: pathlib.Path) -> None:
  assert network_study.table(tmp_path, 'layers') == []
  _write(tmp_path, 'lift_brick_network_64x1_plain', 0.4)
  _write(tmp_path, 'lift_brick_network_512x4', 0.7)
  assert network_study.table(tmp_path, 'torsos') == []
  (table,) = network_study.table(tmp_path, 'layers')
  texts = [
    dict(zip(table.header, (c.text for c in row), strict=True)) for row in table.rows
  ]
  assert [(t['units'], t['residual blocks'], t['normalised']) for t in texts] == [
    ('64', '1', 'no'),
    ('512', '4', 'yes'),
  ]
  assert [t['reward (95 %)'][:5] for t in texts] == ['0.410', '0.710']
  assert texts[0]['seeds × episodes'] == '3 × 2'
  assert all(t['success (95 %)'].startswith('0.50 (') for t in texts)
  # They are no rows of the first table.
  assert tables.results(tmp_path) == []


def test_torsos_are_shown_by_their_filters(tmp_path: pathlib.Path) -> None:
  for name in _TORSOS:
    _write(tmp_path, name, 0.5)
  (table,) = network_study.table(tmp_path, 'torsos')
  shown = [tuple(cell.text for cell in row)[:3] for row in table.rows]
  assert shown == [
    ('4-8-8', '15', 'yes'),
    ('4-8-8', '15', 'no'),
    ('16-32-64-64', '20', 'yes'),
    ('16-32-64-64', '20', 'no'),
  ]
  assert tables.results(tmp_path) == []


def test_the_figure_has_a_panel_for_each_part(tmp_path: pathlib.Path) -> None:
  for name, reward in (
    ('lift_brick_network_256x4', 0.6),
    ('lift_brick_network_64x1', 0.5),
    ('lift_brick_network_64x1_plain', 0.4),
    ('lift_brick_torso_small', 0.7),
  ):
    _write(tmp_path, name, reward)
  panels = {
    'layers': network_study.summary(tmp_path, 'layers'),
    'torsos': network_study.summary(tmp_path, 'torsos'),
  }
  layers, torsos = figures.networks(panels).axes
  assert [t.get_text() for t in layers.get_xticklabels()] == ['64 × 1', '256 × 4']
  drawn = [np.asarray(c[0].get_ydata()).tolist() for c in layers.containers]
  assert drawn == [pytest.approx([0.51, 0.61]), pytest.approx([0.41])]
  assert layers.get_legend_handles_labels()[1] == ['normalised', 'not']
  assert [t.get_text() for t in torsos.get_xticklabels()] == ['4-8-8']
