"""The command that reproduces a paper: what it takes, lists and records."""

import fake_paper
import pytest

from train.reproduce import Settings
from train.reproduce.__main__ import main
from train.reproduce._run import check, command


class TestCommand:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "a NAME is needed"),
            (["hofman2019"], "Did you mean hoffman2019"),
            (["lutter2019", "--scale", "huge"], "quick or full"),
            (["lutter2019", "--seeds", "1"], "at least 2"),
            (["lutter2019", "--break", "data"], "expected penalty"),
            (["lutter2019", "--workers", "0"], "at least 1"),
            (["lutter2019", "--first-seed", "-1"], "--first-seed: got -1, expected 0 or more"),
            (["lutter2019", "--other", "one thread=/tmp"], "--other goes with --reword"),
            (["lutter2019", "--without-penalty", "/tmp"], "--without-penalty goes with --reword"),
            (["hoffman2019", "--most-steps", "0"], "--most-steps: got 0, expected at least 1"),
            (["lutter2019", "--data", "mnist"], "expected NAME=PATH"),
            (["lutter2019", "--data", "mnist=/tmp"], "lutter2019 takes none"),
            (["hoffman2019", "--data", "mnist=/nowhere"], "no such file or folder"),
            (["--report", "/nowhere"], "no claims.json"),
        ],
    )
    def test_bad_input(self, arguments, message, capsys, tmp_path):
        place = [] if "--report" in arguments else ["--workdir", str(tmp_path / "new")]
        assert main([*arguments, *place]) == 2
        shown = capsys.readouterr()
        assert message in shown.err
        assert shown.err.startswith("error: ")
        assert len(shown.err) < 1500
        assert not (tmp_path / "new").exists()

    def test_list(self, capsys):
        assert main(["--list"]) == 0
        listed = capsys.readouterr().out
        for name in ("convolution-guide", "hoffman2019", "scarvelis2024"):
            assert name in listed
        assert "--data mnist=PATH" in listed

    def test_the_command_that_is_recorded_names_no_folder(self):
        settings = Settings(
            scale="full", seeds=7, first_seed=100, data={"shapes": "/home/me"}, broken=True
        )
        said = command(fake_paper.paper(), settings)
        assert said == (
            "python -m train.reproduce fake2000 --scale full --seeds 7 --first-seed 100 "
            "--data shapes=PATH --break penalty"
        )

    def test_data_that_is_there(self, tmp_path):
        check(fake_paper.paper(), Settings(data={"shapes": str(tmp_path)}))
