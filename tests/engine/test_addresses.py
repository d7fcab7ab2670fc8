"""Run folders at addresses: in the memory of this process, and on a server of S3 on this machine."""

import json
import pathlib
import signal
import socket
import subprocess
import sys
import time
import uuid

import jax
import numpy as np
import pytest
import xarray
from test_files import LIKE, at_once, checkpoint, train

import pgjax
from pgjax.cli import main
from pgjax.engine import addresses, files
from pgjax.engine.address_leases import AddressLease
from pgjax.engine.checkpoints import Folder
from pgjax.engine.leases import Shared
from pgjax.engine.progress import Progress
from pgjax.runs import dataset, folder
from pgjax.runs.run import Run
from pgjax.sweeps.values import local_place, place

upath = pytest.importorskip("upath")

TINY = {"hidden": (4,), "num_steps": 4, "num_envs": 2, "eval_episodes": 2, "learning_rate": [1e-3, 1e-2]}
OPTIONS = {"seeds": 3, "settings": TINY, "updates": 10, "width": 4, "progress": False, "checkpoint": 0.0}
WORDS = "a2c PolicyProbe-pgjax --seeds 3 --updates 10 --width 4 --checkpoint 0 --set hidden=4 num_steps=4 num_envs=2"


def train_into(out, **options):
    return pgjax.run("a2c", "PolicyProbe-pgjax", out=out, **OPTIONS | options)


@pytest.fixture(scope="module")
def whole():
    return train_into(None)


def let_go_of_clients():
    """Close every client of S3. s3fs gives that a tenth of a second, too little on busy cores."""
    import fsspec
    import s3fs

    for system in s3fs.S3FileSystem._cache.values():
        if system._s3 is not None:
            fsspec.asyn.sync(system.loop, system._s3.__aexit__, None, None, None)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def bucket():
    """A bucket on a server of its own."""
    pytest.importorskip("moto"), pytest.importorskip("flask_cors")
    pytest.importorskip("s3fs")
    boto3 = pytest.importorskip("boto3")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patched:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patched.setenv(name, "of-no-use")
        patched.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patched.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        # Given here too, since other tests of the process may have left a client that found no credentials.
        given = {"key": "of-no-use", "secret": "of-no-use", "endpoint_url": f"http://{host}:{port}"}
        patched.setitem(pytest.importorskip("fsspec").config.conf, "s3", given)
        let_go_of_clients()
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "s3://bucket"
        let_go_of_clients()
    server.stop()


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.slow)])
def base(request):
    """An address where there is nothing yet."""
    start = "memory://" if request.param == "memory" else f"{request.getfixturevalue('bucket')}/"
    return start + uuid.uuid4().hex


def held(path):
    return sorted(addresses.every(path))


def test_a_run_is_written_and_read_back(base, whole, capsys):
    out = f"{base}/runs/ppo"
    written = train_into(out, snapshots=2)
    assert str(written.path) == out
    run = pgjax.load(out)
    xarray.testing.assert_identical(run.metrics, whole.metrics)
    assert run.updates == [0, 5, 9, 10] and not run.interrupted and run.path.name == "ppo"
    assert files.read(run.path / "curve.png").startswith(b"\x89PNG")
    for update in (0, 10):
        lane = {"seed": 1, "learning_rate": 1e-2, "update": update}
        jax.tree.map(np.testing.assert_array_equal, run.lane(**lane)[2], written.lane(**lane)[2])
    xarray.testing.assert_identical(pgjax.resume(out, progress=False).metrics, whole.metrics)
    assert main.main(["show", out]) == 0 and "60 of 60 updates of all lanes kept" in capsys.readouterr().out
    assert main.main(["report", out, "--out", f"{base}/report.html"]) == 0
    assert b"PolicyProbe-pgjax" in files.read(place("out", f"{base}/report.html"))
    with pytest.raises(ValueError, match=f"out: folder '{out}' holds another run: seeds is"):
        train_into(out, seeds=4)


@pytest.mark.slow
def test_a_run_is_extended_and_a_lane_of_it_replayed(base, whole):
    out = f"{base}/run"
    train_into(out)
    assert pgjax.extend(out, seeds=4, progress=False).metrics.sizes["seed"] == 4
    assert pgjax.load(out).metrics.sizes["seed"] == 4
    pgjax.replay(out, seed=2, learning_rate=1e-3, out=f"{base}/again", progress=False)
    curve = pgjax.load(f"{base}/again").metrics.loss.squeeze()
    np.testing.assert_array_equal(curve, whole.metrics.loss.sel(seed=2, learning_rate=1e-3))


def test_a_run_goes_on_from_the_newest_checkpoint_that_was_sent_whole(base, whole, monkeypatch, capsys):
    out, update, seen = f"{base}/run", Progress.update, []

    def stop(*a):
        seen.append(1)
        update(*a)
        if len(seen) == 5:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Progress, "update", stop)
    assert train_into(out).interrupted
    monkeypatch.undo()
    chunk = place("path", out) / "chunks" / "00000"
    archive = Folder(chunk.parent)
    assert archive.updates(0) == [4, 5]
    for name in ("state.npz", "metrics.npz"):  # of a process that was killed as it sent them
        files.replace_bytes(chunk / "update-00000006" / name, files.read(chunk / "update-00000005" / name))
    assert archive.updates(0) == [4, 5] and archive.measured(0).update == 5
    files.replace_bytes(chunk / "update-00000005" / "metrics.npz", b"torn")
    assert archive.measured(0).update == 4
    assert "update-00000005' is damaged" in capsys.readouterr().err
    run = pgjax.resume(out, progress=False)
    xarray.testing.assert_identical(run.metrics, whole.metrics)
    assert archive.updates(0) == [9, 10] and not run.interrupted


def test_what_was_sent_without_a_manifest_is_removed_when_it_is_old(base, monkeypatch):
    archive = Folder(place("out", base))
    files.replace_bytes(archive.path / "00000" / "update-00000001" / "state.npz", b"a part")
    archive.save(0, checkpoint(2))
    assert "00000/update-00000001/state.npz" in held(archive.path)
    monkeypatch.setattr(files, "OLD", -3600.0)
    archive.save(0, checkpoint(3))
    assert "00000/update-00000001/state.npz" not in held(archive.path) and archive.updates(0) == [2, 3]


def test_the_manifest_comes_last_and_goes_first(base, monkeypatch):
    archive, done = Folder(place("out", base)), []
    system = archive.path.fs
    for name in ("put_file", "rm_file"):
        plain = getattr(system, name)
        monkeypatch.setattr(system, name, lambda *a, plain=plain, name=name: (done.append((name, a[-1])), plain(*a))[1])
    for update in (1, 2, 3):
        archive.save(0, checkpoint(update))
    put = [key.rpartition("/")[2] for name, key in done if name == "put_file"]
    assert put[2::3] == ["manifest.json"] * 3 and "manifest.json" not in put[0::3] + put[1::3]
    removed = [key for name, key in done if name == "rm_file"]
    assert removed[0].endswith("update-00000001/manifest.json") and not any("00002" in key for key in removed)


def test_arrays_of_a_former_writing_are_gone_and_of_two_writers_one_makes_the_folder(base):
    path = place("out", base)
    for names in ("ab", "bc"):
        data = xarray.Dataset({name: ("seed", np.arange(3.0)) for name in names}, {"seed": [0, 1, 2]})
        dataset.write(path / "metrics.zarr", data)
        xarray.testing.assert_equal(dataset.load(path / "metrics.zarr"), data)
    assert not any(name.startswith("metrics.zarr/a") for name in held(path))
    folder.create(path / "run", {"mine": 1}, {"own.py": b"x = 1\n"})
    with pytest.raises(FileExistsError):
        files.create(path / "run" / "config.json", "{}")
    assert files.read(path / "run" / "sources" / "own.py") == b"x = 1\n"
    folder.discard([path / "run"])
    assert not any(name.startswith("run") for name in held(path))
    for missing in (lambda: files.read(path / "none"), lambda: files.names(path / "none")):
        with pytest.raises(FileNotFoundError):
            missing()
    files.remove(path / "none")


def test_a_lease_has_one_owner_until_it_is_given_back_or_its_owner_dies(base):
    filelock = pytest.importorskip("filelock")
    path = place("out", base) / "claims" / "00003"
    first, second = AddressLease(path, 0.6), AddressLease(path, 0.6, timeout=0)
    with first:
        for _ in range(10):  # longer than it lasts
            with pytest.raises(filelock.Timeout):
                second.acquire()
            time.sleep(0.1)
        assert first.held() and b"pid=" in files.read(path)
    assert not files.exists(path)
    second.acquire()
    second.ended.set()  # it's kept no longer, as of a process of another machine that is gone
    began = time.monotonic()
    with AddressLease(path, 0.6) as third:
        assert 0.5 < time.monotonic() - began < 5 and third.held() and not second.held()
        second.release()
        assert third.held()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    files.replace_text(path, f"host={socket.gethostname()}\npid={gone.pid}\ntoken=0\nbeat=3\n")
    with AddressLease(path, 60.0, timeout=0):  # of a process of this machine that is gone
        pass
    for line in ("began", "saved"):
        files.append(path, line)
    assert files.read(path) == b"began\nsaved\n"


@pytest.mark.slow
def test_two_processes_train_the_same_chunk_on_a_server(bucket, capfd):
    assert at_once(train, f"{bucket}/shared", 30) == []
    assert "is damaged" not in capfd.readouterr().err
    archive = Folder(place("out", f"{bucket}/shared"))
    assert archive.load(0, LIKE).update == archive.updates(0)[-1] and len(archive.updates(0)) == 2


@pytest.mark.slow
def test_a_killed_process_is_gone_on_from_a_server(bucket, whole):
    out = f"{bucket}/killed"
    words = f"{WORDS} eval_episodes=2 learning_rate=1e-3,1e-2 --out {out}".split()
    path, one = place("out", out), subprocess.Popen([sys.executable, "-m", "pgjax", "sweep", *words])
    while one.poll() is None and not [name for name in held(path) if name.endswith("manifest.json")]:
        time.sleep(0.02)
    one.send_signal(signal.SIGKILL)
    one.wait()
    assert Run.open(out).interrupted
    xarray.testing.assert_identical(pgjax.resume(out, progress=False).metrics, whole.metrics)


@pytest.mark.slow
def test_two_processes_share_a_run_on_a_server(bucket, whole):
    out = f"{bucket}/divided"
    words = f"{WORDS} eval_episodes=2 learning_rate=1e-3,1e-2 --out {out}".split()
    both = [subprocess.Popen([sys.executable, "-m", "pgjax", "sweep", *words]) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    run, claims = pgjax.load(out), Shared(place("path", out))
    xarray.testing.assert_identical(run.metrics, whole.metrics)
    ended = [[event.what for event in claims.events(number)].count("ended") for number in range(2)]
    assert ended == [1, 1] and claims.held() == set() and claims.told() == {}


def test_mistakes_are_one_line(monkeypatch, tmp_path):
    for text, message in {
        "foo://x/y": "out: 'foo://x/y' is an address that can't be used: Unsupported filesystem: 'foo'",
        "s3:/bucket/run": "out: 's3:/bucket/run' lacks a slash; give an address as text, such as s3://bucket/run",
        "memory://": "out: 'memory://' is an address that can't be used: it names no folder; give one, such as",
    }.items():
        with pytest.raises(ValueError) as caught:
            place("out", text)
        assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="lacks a slash"):
        place("out", pathlib.Path("s3://bucket/run"))
    with pytest.raises(ValueError, match="path: no folder 'memory://none': nothing is there"):
        pgjax.load("memory://none")
    with pytest.raises(ValueError, match="out must be a path on this machine, got 'memory://x.gif'; write there, and"):
        local_place("out", "memory://x.gif")
    with pytest.raises(ValueError, match="log: tensorboard writes to a disk alone, not to 'memory://run'; use wandb"):
        train_into("memory://run", log="tensorboard")
    assert place("out", f"file://{tmp_path}/run") == tmp_path / "run"
    for module, package in {"upath": "universal-pathlib", "s3fs": "s3fs"}.items():
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, module, None)
            line = f"out: 's3://bucket/run': the package {package} isn't installed; pip install -e \".[remote]\""
            with pytest.raises(ValueError, match="isn't installed") as caught:
                place("out", "s3://bucket/run")
            assert str(caught.value) == line


@pytest.mark.slow
def test_a_bucket_that_is_not_there_or_is_not_mine_is_one_line(bucket, monkeypatch):
    reason = "'s3://nobody/run': The specified bucket does not exist"
    with pytest.raises(ValueError, match=f"out: can't make folder {reason}"):
        train_into("s3://nobody/run")
    with pytest.raises(ValueError, match=f"path: no folder {reason}"):
        pgjax.load("s3://nobody/run")

    async def deny(*_, **__):
        raise PermissionError("Access Denied")

    import s3fs

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", deny)
    with pytest.raises(ValueError, match=r"path: can't read 's3://bucket/run': Access Denied"):
        pgjax.load("s3://bucket/run")
    with pytest.raises(ValueError, match=r"out: can't read folder 's3://bucket/run': Access Denied"):
        train_into("s3://bucket/run")


def test_a_server_that_does_not_answer_spoils_no_checkpoint(monkeypatch, capsys):
    archive = Folder(place("out", f"memory://{uuid.uuid4().hex}"))
    archive.save(0, checkpoint(1))

    def fail(*_, **__):
        raise RuntimeError("no route\nto the server")

    with monkeypatch.context() as patched:
        patched.setattr(type(archive.path.fs), "cat_file", fail)
        with pytest.raises(OSError, match="can't reach 'memory://.*manifest.json': no route to the server"):
            archive.measured(0, discard=True)
    assert archive.measured(0).update == 1 and capsys.readouterr().err == ""
    assert json.loads(files.read(archive.path / "00000" / "update-00000001" / "manifest.json"))["update"] == 1
