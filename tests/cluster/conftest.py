"""A Slurm of three hosts on one machine: network namespaces, joined by a bridge.

No systemd, no cgroups; root is needed. The bridge is in a namespace of its own, too, so
there is no way out. A host is lost by killing all that runs in its namespace.
"""

from collections.abc import Iterator
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

HOSTS = {'ctl': '10.77.0.1', 'h1': '10.77.0.11', 'h2': '10.77.0.12', 'h3': '10.77.0.13'}
"""Addresses; the first host has the controller, and does not compute."""
NETWORK = '10.77.0.0/24'
CORES = 8
"""Of each host, in name only."""
_COMMANDS = ('slurmctld', 'slurmd', 'sbatch', 'munged', 'ip', 'unshare')
_INSTALL = 'on Debian: apt-get install slurm-wlm munge iproute2'
_CONF = """\
ClusterName=virtual
SlurmctldHost=ctl({ctl})
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=60
KillWait=20
MessageTimeout=20
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
_ENTER = """\
#!/bin/bash
# enter HOST COMMAND...: runs it as if on HOST.
host=$1; shift; export SLURM_CONF={folder}/slurm.conf
exec ip netns exec {prefix}-"$host" unshare -u -m bash -c \\
  'hostname "$0"; mount --bind {folder}/hosts /etc/hosts; exec "$@"' "$host" "$@"
"""


class Cluster:
  """The virtual hosts and their Slurm."""

  def __init__(self, folder: pathlib.Path) -> None:
    self.folder = folder
    self._prefix = f'mm{os.getpid()}'
    self._namespaces: list[str] = []
    self._daemons: list[subprocess.Popen[bytes]] = []

  def up(self) -> None:
    """Makes the hosts and starts Slurm on them."""
    self._add_namespace('bridge')
    self._ip('bridge', 'link', 'add', 'br0', 'type', 'bridge')
    self._ip('bridge', 'link', 'set', 'br0', 'up')
    for host, address in HOSTS.items():
      self._add_host(host, address)
    (self.folder / 'munge.key').write_bytes(os.urandom(128))
    (self.folder / 'munge.key').chmod(0o600)
    names = [f'{address} {host}' for host, address in HOSTS.items()]
    (self.folder / 'hosts').write_text('\n'.join(['127.0.0.1 localhost', *names, '']))
    conf = _CONF.format(folder=self.folder, ctl=HOSTS['ctl'])
    for i, host in enumerate(self.computing):
      conf += (
        f'NodeName={host} NodeAddr={HOSTS[host]} NodeHostname={host} CPUs={CORES} '
        f'RealMemory=4000 Weight={i + 1} State=UNKNOWN\n'
      )
      (self.folder / f'spool.{host}').mkdir()
    (self.folder / 'state').mkdir()
    (self.folder / 'slurm.conf').write_text(conf)
    (self.folder / 'cgroup.conf').write_text('CgroupPlugin=cgroup/v1\n')
    (self.folder / 'enter').write_text(
      _ENTER.format(folder=self.folder, prefix=self._prefix)
    )
    (self.folder / 'enter').chmod(0o700)
    munge = {'key-file': 'key', 'socket': 'sock', 'pid-file': 'pid'}
    munge |= {'log-file': 'log', 'seed-file': 'seed'}
    files = [f'--{option}={self.folder}/munge.{end}' for option, end in munge.items()]
    self._daemon('munged', ['munged', '--force', '--foreground', *files])
    self._wait(lambda: (self.folder / 'munge.sock').exists(), 'munged')
    self._daemon('slurmctld', self._on('ctl', 'slurmctld', '-D'))
    for host in self.computing:
      self.start(host)
    self._wait(
      lambda: self.run('sinfo', '-h', '-o', '%D %T').startswith('3 idle'), 'Slurm'
    )

  @property
  def computing(self) -> list[str]:
    """Hosts that jobs run on."""
    return [host for host in HOSTS if host != 'ctl']

  def run(self, *command: str) -> str:
    """Runs a command on the controller's host; returns what it printed."""
    done = subprocess.run(
      self._on('ctl', *command), stdout=subprocess.PIPE, text=True, timeout=120
    )
    return done.stdout

  def start(self, host: str) -> None:
    """Starts a host's daemon, at first or after the host was lost."""
    self._daemon(f'slurmd.{host}', self._on(host, 'slurmd', '-D', '-N', host))

  def lose(self, host: str) -> None:
    """Kills all that runs on a host."""
    for pid in self._pids(host):
      os.kill(pid, signal.SIGKILL)

  def listening(self, host: str) -> list[str]:
    """Returns the local addresses on which anything listens on a host, of Python's."""
    done = subprocess.run(
      self._on(host, 'ss', '-Hltnp'), capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stdout.splitlines() if 'python' in line]
    return [line.split()[3] for line in lines]

  def down(self) -> None:
    """Ends all that was started here, and removes the hosts."""
    for host in HOSTS:
      if f'{self._prefix}-{host}' in self._namespaces:
        self.lose(host)
    for daemon in reversed(self._daemons):
      daemon.kill()
      daemon.wait()
    for namespace in self._namespaces:
      subprocess.run(['ip', 'netns', 'del', namespace], check=True)

  def _on(self, host: str, *command: str) -> list[str]:
    return [str(self.folder / 'enter'), host, *command]

  def _pids(self, host: str) -> list[int]:
    command = ['ip', 'netns', 'pids', f'{self._prefix}-{host}']
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [int(pid) for pid in done.stdout.split()]

  def _add_namespace(self, name: str) -> None:
    namespace = f'{self._prefix}-{name}'
    subprocess.run(['ip', 'netns', 'add', namespace], check=True)
    self._namespaces.append(namespace)
    self._ip(name, 'link', 'set', 'lo', 'up')

  def _add_host(self, host: str, address: str) -> None:
    self._add_namespace(host)
    far = ['peer', 'name', 'eth0', 'netns', f'{self._prefix}-{host}']
    self._ip('bridge', 'link', 'add', host, 'type', 'veth', *far)
    self._ip('bridge', 'link', 'set', host, 'master', 'br0')
    self._ip('bridge', 'link', 'set', host, 'up')
    self._ip(host, 'addr', 'add', f'{address}/24', 'dev', 'eth0')
    self._ip(host, 'link', 'set', 'eth0', 'up')

  def _ip(self, name: str, *args: str) -> None:
    subprocess.run(['ip', '-n', f'{self._prefix}-{name}', *args], check=True)

  def _daemon(self, name: str, command: list[str]) -> None:
    with open(self.folder / f'{name}.out', 'ab') as output:
      self._daemons.append(
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
      )

  def _wait(self, condition: object, what: str) -> None:
    assert callable(condition)
    end = time.monotonic() + 300
    while not condition():
      assert time.monotonic() < end, f'{what} does not come up; see {self.folder}'
      time.sleep(0.2)


@pytest.fixture(name='cluster', scope='module')
def cluster_fixture() -> Iterator[Cluster]:
  """Gives a Slurm of three hosts."""
  missing = [command for command in _COMMANDS if shutil.which(command) is None]
  if missing:
    pytest.exit(f'{", ".join(missing)} not on PATH; {_INSTALL}', returncode=2)
  if os.geteuid():
    pytest.exit('network namespaces are made by root alone', returncode=2)
  # Not pytest's own folder: a socket's path must not be long.
  with tempfile.TemporaryDirectory(prefix='slurm-') as folder:
    cluster = Cluster(pathlib.Path(folder))
    try:
      cluster.up()
      yield cluster
    finally:
      cluster.down()
