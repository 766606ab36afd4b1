"""Every mirror keeps the port; MLflow's copy is read back with MLflow's own client."""

from pathlib import Path

import pytest

from falaj.adapters.memory.mirror import MemoryMirror
from falaj.core.errors import NotFound, Unavailable
from falaj.ports.mirror import Mirror
from falaj.testing.mirror import TRACKED, MirrorContract


class TestMemoryMirror(MirrorContract):
    __test__ = True

    def mirror(self) -> Mirror:
        return MemoryMirror()


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning", "ignore::ResourceWarning"
)
class TestMlflowMirror(MirrorContract):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.folder = tmp_path_factory.getbasetemp() / "mlflow-mirror"
        self.folder.mkdir(exist_ok=True)

    def mirror(self) -> Mirror:
        from falaj.adapters.mlflow.mirror import MlflowMirror

        return MlflowMirror(f"sqlite:///{self.folder / 'mlflow.db'}", self.folder / "artifacts")

    def test_mlflow_s_own_client_reads_the_run_back(self) -> None:
        from mlflow import MlflowClient

        run_id = self.mirror().record_run(TRACKED)
        client = MlflowClient(tracking_uri=f"sqlite:///{self.folder / 'mlflow.db'}")
        run = client.get_run(run_id)
        assert run.data.metrics["roc_auc"] == 0.75
        assert run.data.params["leaves"] == "31"
        assert [metric.value for metric in client.get_metric_history(run_id, "auc")] == [0.5, 0.6, 0.7]
        assert [found.path for found in client.list_artifacts(run_id)] == ["plot.png"]

    def test_an_alias_of_a_version_that_was_never_copied_is_not_found(self) -> None:
        with pytest.raises(NotFound):
            self.mirror().record_alias("unknown", "champion", "1")

    def test_a_place_that_cannot_be_written_is_unavailable(self, tmp_path: Path) -> None:
        from falaj.adapters.mlflow.mirror import MlflowMirror

        (tmp_path / "taken").write_text("a file")
        with pytest.raises(Unavailable, match="goes on without the copy"):
            MlflowMirror(f"sqlite:///{tmp_path}/taken/x.db", tmp_path).record_run(TRACKED)
