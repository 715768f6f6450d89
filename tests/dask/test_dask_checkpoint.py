"""Checkpoints written by the workers of a cluster."""

from pathlib import Path

import pytest

import fastkaiming as fk
from fastkaiming import checkpoint

distributed = pytest.importorskip("distributed")

SOURCE = {"tensors": {f"{n}.weight": [64, 48] for n in range(9)}}


def test_cluster_writes_the_same_files(tmp_path: Path) -> None:
    checkpoint.write(SOURCE, tmp_path / "here", max_shard_size="20KB")
    reports: list[tuple[int, int]] = []
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        with distributed.get_task_stream(client=client) as tasks, fk.progress(lambda *report: reports.append(report)):
            report = checkpoint.write(SOURCE, tmp_path / "there", max_shard_size="20KB", dask=client)
        with pytest.raises(FileExistsError):
            checkpoint.write(SOURCE, tmp_path / "there", max_shard_size="20KB", dask=client)
    assert len(report.files) > 2
    assert [done for done, _ in reports] == [n * 64 * 48 for n in range(1, 10)]
    assert {total for _, total in reports} == {9 * 64 * 48}
    assert len(tasks.data) == len(report.files)
    assert len({task["worker"] for task in tasks.data}) == 2
    here, there = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("here", "there"))
    assert here == there


def test_dask_argument_must_be_a_client(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"dask must be a distributed\.Client or None, not int 1"):
        checkpoint.write(SOURCE, tmp_path / "out", dask=1)
    assert not list(tmp_path.iterdir())
