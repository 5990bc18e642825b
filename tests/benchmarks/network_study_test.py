"""Tests of benchmarks.network_study, on made-up results."""

import pathlib

import numpy as np
import pandas as pd
import pytest

from benchmarks import experiments
from benchmarks import figures
from benchmarks import network_study
from benchmarks import tables
from launch_configs import local

_SIZED = {n: e for n, e in experiments.EXPERIMENTS.items() if e.size is not None}


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
  (folder / f'{name}.json').write_text('{"runs": {}}')


@pytest.mark.parametrize('name', list(_SIZED))
def test_runs_differ_in_their_networks_alone(name: str) -> None:
  experiment = _SIZED[name]
  assert experiment.size is not None
  width, blocks, normalised = experiment.size
  _, config = local.parse([*experiment.all_arguments])
  network = config.network
  assert (network.policy_width, network.critic_width) == (width, width)
  assert (network.policy_blocks, network.critic_blocks) == (blocks, blocks)
  assert network.normalise == normalised
  _, other = local.parse([*_SIZED['lift_brick_network_256x1'].all_arguments])
  assert config == type(config)(**{**vars(other), 'network': network})


def test_each_size_is_there_normalised_and_not() -> None:
  sizes = [e.size for e in _SIZED.values() if e.size]
  assert len(sizes) == len(set(sizes)) == 8
  assert {s[:2] for s in sizes if s[2]} == {s[:2] for s in sizes if not s[2]}
  assert all(len(e.seeds) >= 3 for e in _SIZED.values())


def test_what_has_been_run_is_shown(tmp_path: pathlib.Path) -> None:
  assert network_study.table(tmp_path) == []
  _write(tmp_path, 'lift_brick_network_64x1_plain', 0.4)
  _write(tmp_path, 'lift_brick_network_512x4', 0.7)
  (table,) = network_study.table(tmp_path)
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


def test_the_figure_has_a_line_for_each(tmp_path: pathlib.Path) -> None:
  for name, reward in (
    ('lift_brick_network_256x4', 0.6),
    ('lift_brick_network_64x1', 0.5),
    ('lift_brick_network_64x1_plain', 0.4),
  ):
    _write(tmp_path, name, reward)
  (axes,) = figures.networks(network_study.summary(tmp_path)).axes
  assert [t.get_text() for t in axes.get_xticklabels()] == ['64 × 1', '256 × 4']
  drawn = [np.asarray(c[0].get_ydata()).tolist() for c in axes.containers]
  assert drawn == [pytest.approx([0.51, 0.61]), pytest.approx([0.41])]
  assert axes.get_legend_handles_labels()[1] == ['layer normalisation', 'none']
