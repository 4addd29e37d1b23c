"""The launch files, against stand-ins for the programs of a cluster."""

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / 'launch'
TPU = LAUNCH / 'tpu_vm.sh'
ARGUMENTS = ['--config=configs/di.py', '--config.data.dir=/a b/$HOME']


def stub(folder, name, script):
    """A program of that name that first writes down its arguments, one a line."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    log = shlex.quote(str(folder / f'{name}.log'))
    path.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" -- >> {log}\n{script}\n')
    path.chmod(0o755)


def calls(folder, name):
    """The arguments of every call of a stub."""
    path = folder / f'{name}.log'
    lines = path.read_text().split('\n--\n') if path.exists() else []
    return [call.splitlines() for call in lines if call]


def run(script, *arguments, cwd, **environment):
    return subprocess.run(
        ['bash', script, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={'PATH': f'{cwd / "bin"}:/usr/bin:/bin'} | environment,
        timeout=60,
    )


@pytest.mark.parametrize(
    'script', ['launch/tpu_vm.sh', 'launch/slurm.sbatch', '.ci/run', '.ci/oldest']
)
def test_shellcheck(script):
    # Beside the interpreter, whose environment need not be activated.
    shellcheck = shutil.which('shellcheck', path=Path(sys.executable).parent)
    assert shellcheck, "pip install -e '.[test]' brings it"
    script = LAUNCH.parent / script
    ran = subprocess.run([shellcheck, script], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


def tpu(tmp_path, *arguments, script='exit 0'):
    stub(tmp_path / 'bin', 'gcloud', script)
    ran = run(TPU, '--zone=here', *arguments, cwd=tmp_path, HOME=str(tmp_path))
    return ran, calls(tmp_path / 'bin', 'gcloud')


def test_tpu_creates_and_deletes(tmp_path):
    _, made = tpu(tmp_path, '--type=v5p-16', '--spot', 'create', 'faces')
    assert made[0][:5] == ['compute', 'tpus', 'tpu-vm', 'create', 'faces']
    assert {'--accelerator-type=v5p-16', '--spot', '--zone=here'} <= set(made[0])
    _, made = tpu(tmp_path, 'delete', 'faces')
    assert made[1][3:] == ['delete', 'faces', '--quiet', '--zone=here']


def test_tpu_copies_the_repository_to_every_host(tmp_path):
    ran, made = tpu(tmp_path, '--dry-run', 'copy', 'faces')
    assert made == []
    lines = ran.stdout.splitlines()
    assert lines[0].startswith('git archive')
    assert all('--worker=all' in line for line in lines[1:]) and len(lines) == 4
    assert 'install' in lines[-1]


def test_tpu_runs_until_it_is_done(tmp_path):
    """What a preemption notice stopped starts again, with the same arguments."""
    venv = tmp_path / 'sicnn_jax' / '.venv' / 'bin'
    stub(venv, 'python', '[ -e done ] || { touch done; exit 75; }; touch twice')
    # The host's shell is given the command as gcloud's ssh gives it.
    remote = 'for a; do case $a in --command=*) bash -c "${a#*=}";; esac; done'
    stub(tmp_path / 'bin', 'sleep', 'exit 0')
    ran, made = tpu(tmp_path, 'run', 'faces', '--', *ARGUMENTS, script=remote)
    assert ran.returncode == 0, ran.stderr
    assert '--worker=all' in made[0]
    deadline = time.monotonic() + 30
    while not (tmp_path / 'sicnn_jax' / 'twice').exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert calls(venv, 'python') == [['-m', 'sicnn_jax.main', *ARGUMENTS]] * 2


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['create'], 'expected COMMAND and NAME'),
        (['start', 'faces'], 'unknown command start; expected create, copy'),
        (['--zones=a', 'create', 'faces'], 'unknown option --zones=a'),
        (['run', 'faces'], 'expected -- and arguments'),
        (['--zone=', 'create', 'faces'], '--zone is missing'),
    ],
)
def test_tpu_wrong_usage(tmp_path, arguments, message):
    ran, made = tpu(tmp_path, *arguments)
    assert ran.returncode == 2 and message in ran.stderr
    assert made == []


def slurm(tmp_path, status, *arguments):
    stub(tmp_path / 'bin', 'srun', f'echo "$JAX_COORDINATOR_ADDRESS"; exit {status}')
    stub(tmp_path / 'bin', 'scontrol', 'printf "node3\\nnode4\\n"')
    return run(
        LAUNCH / 'slurm.sbatch',
        *arguments,
        cwd=tmp_path,
        SLURM_SUBMIT_DIR=str(tmp_path),
        SLURM_JOB_ID='40012',
        SLURM_JOB_NODELIST='node[3-4]',
    )


def test_slurm_runs_one_process_a_node(tmp_path):
    ran = slurm(tmp_path, 0, *ARGUMENTS)
    assert ran.returncode == 0, ran.stderr
    # The first node, and a port of this job.
    assert ran.stdout.strip() == 'node3:20012'
    (call,) = calls(tmp_path / 'bin', 'srun')
    assert call[1:] == ['.venv/bin/python', '-m', 'sicnn_jax.main', *ARGUMENTS]
    (call,) = calls(tmp_path / 'bin', 'scontrol')
    assert call == ['show', 'hostnames', 'node[3-4]']


def test_slurm_queues_again_what_was_stopped_and_nothing_else(tmp_path):
    assert slurm(tmp_path, 75, *ARGUMENTS).returncode == 0
    assert ['requeue', '40012'] in calls(tmp_path / 'bin', 'scontrol')
    assert slurm(tmp_path / 'b', 1, *ARGUMENTS).returncode == 1
    assert len(calls(tmp_path / 'b' / 'bin', 'scontrol')) == 1
    assert slurm(tmp_path / 'c', 0).returncode == 2


def test_kubernetes_fits_together():
    yaml = pytest.importorskip('yaml')
    text = (LAUNCH / 'kubernetes' / 'job.yaml').read_text()
    service, job = yaml.safe_load_all(text)
    spec, pod = job['spec'], job['spec']['template']['spec']
    (container,) = pod['containers']
    values = {entry['name']: entry.get('value') for entry in container['env']}
    assert service['kind'] == 'Service' and service['spec']['clusterIP'] == 'None'
    assert service['spec']['selector'] == {'job-name': job['metadata']['name']}
    name = service['metadata']['name']
    assert pod['subdomain'] == name and pod['restartPolicy'] == 'Never'
    port = container['ports'][0]['containerPort']
    first = f'{job["metadata"]["name"]}-0.{name}'
    assert values['JAX_COORDINATOR_ADDRESS'] == f'{first}:{port}'
    assert spec['completionMode'] == 'Indexed'
    assert (
        spec['completions'] == spec['parallelism'] == int(values['JAX_NUM_PROCESSES'])
    )
    assert {m['name'] for m in container['volumeMounts']} == {
        volume['name'] for volume in pod['volumes']
    }
    assert 'nvidia.com/gpu' in container['resources']['limits']
    for rule in spec['podFailurePolicy']['rules']:
        if 'onExitCodes' in rule:
            assert rule['onExitCodes']['containerName'] == container['name']


def test_kubernetes_is_valid():
    """By the API's own schema."""
    validate = pytest.importorskip('kubernetes_validate')
    import yaml

    text = (LAUNCH / 'kubernetes' / 'job.yaml').read_text()
    for resource in yaml.safe_load_all(text):
        validate.validate(resource, '1.31', strict=True)
