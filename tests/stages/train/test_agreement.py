from pathlib import Path

import pytest
import torch

from pipeline.core import source_code
from pipeline.core.errors import PipelineError
from pipeline.params import Params
from pipeline.stages.train import agreement
from tests.builders.params import override

CPU = torch.device("cpu")


@pytest.fixture
def features(tmp_path: Path) -> Path:
    (tmp_path / "features.json").write_text("{}")
    (tmp_path / "view_0.tensor_0.npy").write_bytes(b"12345678")
    return tmp_path


def test_equal_processes_agree(params: Params, features: Path) -> None:
    facts = agreement.describe_process(params, features, CPU)
    other = agreement.describe_process(override(params, evaluate__samples=3), features, CPU)
    agreement.compare([("node-1", facts), ("node-2", other)])


def test_whatever_decides_the_bytes_of_a_training_must_be_equal(
    params: Params, features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = agreement.describe_process(params, features, CPU)
    with monkeypatch.context() as patch:
        patch.setattr(source_code, "digest", lambda *_: "other")
        code = agreement.describe_process(params, features, CPU)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with_more_threads = agreement.describe_process(params, features, CPU)
    finally:
        torch.set_num_threads(threads)
    (features / "view_0.tensor_0.npy").write_bytes(b"1234")
    differing = {
        "the code": code,
        "the number of threads (OMP_NUM_THREADS)": with_more_threads,
        features.as_posix(): agreement.describe_process(params, features, CPU),
    }
    for name, facts in differing.items():
        with pytest.raises(PipelineError) as caught:
            agreement.compare([("node-1", first), ("node-1", first), ("node-2", facts)])
        assert str(caught.value).startswith(
            f"the processes of this training differ in {name}: {first[name]} in process 0 on "
            f"node-1, {facts[name]} in process 2 on node-2; all need "
        )
