"""Tests of benchmarks.picture_styles, on a policy that was never trained."""

import pathlib

import numpy as np
import pandas as pd
import pytest

from benchmarks import picture_styles
from envs import tasks
from metamimic import config as config_lib
from tests.metamimic import untrained

SIZE = (32, 32)


def test_styles_show_the_same_scene_and_only_that_of_the_states_asked_for() -> None:
  environment = tasks.load('lift_brick', seed=0)
  environment.physics.model.vis.global_.fovy = 42
  environment.reset()
  states = [environment.get_state()]
  for _ in range(10):
    environment.advance(np.full(9, 0.5, np.float32))
  states.append(environment.get_state())
  pictures = {}
  for name, make in picture_styles.STYLES.items():
    style = make(environment, SIZE, 'front')
    start, end = style.render_states(np.stack(states))
    assert start.shape == end.shape == (*SIZE, 3) and start.dtype == np.uint8
    assert (start != end).any()
    environment.set_state(states[1])
    np.testing.assert_array_equal(style.render(), end)
    pictures[name] = start.astype(float)
  # The brick is red, and where it is in all of them.
  places = {}
  for name, picture in pictures.items():
    red = picture[..., 0] - picture[..., 1:].max(-1)
    places[name] = np.argwhere(red > 80).mean(0)
  for name, place in places.items():
    np.testing.assert_allclose(place, places['ours'], atol=1, err_msg=name)
  assert np.abs(pictures['ours'] - pictures['dm_control']).mean() > 10


def test_a_policy_is_measured_with_pictures_of_each_style(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  run = tmp_path / 'run'
  run.mkdir()
  untrained.make_run(run, config_lib.PixelsConfig(cameras=('front',), size=SIZE[0]))
  seen = []
  ours = picture_styles.STYLES['ours']

  class Black:
    """Draws nothing."""

    def render(self) -> np.ndarray:
      """Returns a black picture."""
      seen.append(1)
      return np.zeros((*SIZE, 3), np.uint8)

    def render_states(self, states: np.ndarray) -> list[np.ndarray]:
      """Returns one of each."""
      return [self.render() for _ in states]

  styles = {'ours': ours, 'black': lambda *unused: Black()}
  monkeypatch.setattr(picture_styles, 'STYLES', styles)
  output = tmp_path / 'out.csv'
  arguments = picture_styles.Arguments(
    str(run), styles=tuple(styles), episodes=2, output=str(output)
  )
  rows = picture_styles.main(arguments)
  # Of each demonstration every frame is drawn, and what is seen at every step.
  assert len(seen) >= 2 * 2 * untrained.STEPS
  assert rows['style'].tolist() == ['ours'] * 2 + ['black'] * 2
  assert sorted(set(rows['demonstration'])) == ['demo_1', 'demo_2']
  ours_, black = (rows[rows['style'] == name]['reward'].tolist() for name in styles)
  assert ours_ != black and all(0 < reward < 1 for reward in ours_ + black)
  assert len(pd.read_csv(output)) == 4


def test_what_cannot_be_measured_is_refused(tmp_path: pathlib.Path) -> None:
  with pytest.raises(ValueError, match=r"styles are \['grey'\]; expected some of"):
    picture_styles.main(picture_styles.Arguments('run', styles=('grey',)))
  untrained.make_run(tmp_path)
  with pytest.raises(ValueError, match='its policy sees no pictures'):
    picture_styles.main(picture_styles.Arguments(str(tmp_path)))
  (tmp_path / 'wrist').mkdir()
  wrist = untrained.make_run(
    tmp_path / 'wrist', config_lib.PixelsConfig(cameras=('wrist',), size=SIZE[0])
  )
  with pytest.raises(ValueError, match="expected styles without 'dm_control'"):
    picture_styles.main(picture_styles.Arguments(str(wrist)))
