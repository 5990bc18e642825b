"""Tests of metamimic.plotting."""

import pathlib

from matplotlib import figure as figure_lib
from PIL import Image
import pytest

from metamimic import plotting


def _figure() -> figure_lib.Figure:
  figure, (axes,) = plotting.make_panels(1, 1, (10, 3.9))
  plotting.share_axis(axes, 'Task success', 'share of episodes')
  axes.set_xlabel('learner steps')
  axes.plot([0, 100], [0, 0.4], color=plotting.colour('metamimic'))
  return figure


def test_svg_keeps_text_and_repeats() -> None:
  one = plotting.svg(_figure())
  assert '>learner steps</text>' in one
  assert '<metadata>' not in one and one.rstrip().endswith('</svg>')
  assert one == plotting.svg(_figure())


@pytest.mark.parametrize('name', ['curve.png', 'curve.svg'])
def test_save_writes_the_format_of_its_ending(
  tmp_path: pathlib.Path, name: str
) -> None:
  plotting.save(_figure(), tmp_path / name)
  assert [path.name for path in tmp_path.iterdir()] == [name]
  if name.endswith('png'):
    with Image.open(tmp_path / name) as picture:
      assert picture.size == (2000, 780)
  else:
    assert '<svg' in (tmp_path / name).read_text()


def test_read_leaves_out_a_half_written_row(tmp_path: pathlib.Path) -> None:
  path = tmp_path / 'learner.csv'
  assert plotting.read(path).empty
  path.write_text('')
  assert plotting.read(path).empty
  path.write_text('a,b\n1,2\n3')
  assert plotting.read(path).to_dict('records') == [{'a': 1, 'b': 2}]
