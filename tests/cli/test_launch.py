"""Commands that launch themselves: what goes to accelerate and what to TRL, the ready files, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from campus_tune.cli import launch as launching
from campus_tune.cli.launch import Launch, launch, read_asked, read_launch
from campus_tune.cli.main import main as campus_tune
from campus_tune.recipe.launched import ASKED, KINDS, Asked, launch_flags, refuse_other_launch
from campus_tune.recipe.trl_yaml import LAUNCHED, parse_trl, read_arguments, unknown_in
from campus_tune.run.ledger import read_ledger
from campus_tune.words.errors import RecipeError
from campus_tune.words.strict_yaml import read_yaml
from tests.libraries import CHECKPOINTING

ROOT = Path(__file__).parents[2]
READY = sorted((ROOT / "recipes/accelerate").glob("*.yaml"))
CPU = str(ROOT / "recipes/accelerate/ddp_cpu.yaml")


@pytest.fixture(autouse=True)
def _a_process_that_nobody_launched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    before = dict(os.environ)
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("accelerate.commands.config.default_config_file", str(tmp_path / "none.yaml"))
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]


def devices(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr("campus_tune.cli.launch.n_devices", lambda: number)


def recipe(folder: Path, **settings: Any) -> str:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"model_name_or_path": "model", **settings}))
    return str(path)


def config(folder: Path, text: str) -> Path:
    path = folder / "accelerate.yaml"
    path.write_text(text)
    return path


def asked(*argv: str) -> Launch:
    plan = read_launch(argv)
    assert plan is not None
    return plan


def problems(plan: Launch) -> list[str]:
    return read_asked(plan)[2]


# -- the ready files -----------------------------------------------------------------------------------------------


def accelerate_arguments(path: Path, *flags: str) -> Any:
    """What accelerate's launcher makes of a file, before it starts anything."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    words = [f"--config_file={path}", *flags, "--module", "campus_tune", "sft"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    return arguments


def test_five_ready_files_are_there() -> None:
    assert [path.stem for path in READY] == ["ddp", "ddp_cpu", "fsdp2", "zero2", "zero3"]


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_a_ready_file_is_what_accelerate_and_we_can_read(path: Path) -> None:
    from accelerate.commands.config import load_config_from_file

    loaded = load_config_from_file(str(path))
    assert loaded.num_processes == 2
    assert loaded.use_cpu is (path.stem == "ddp_cpu")
    _, wanted, wrong = read_asked(Launch(path, {}, ["sft"]))
    assert (wanted.processes, wanted.kind, wrong) == (2, str(loaded.distributed_type.value), [])


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_a_ready_file_says_when_to_take_it_what_it_costs_and_how_to_launch_it(path: Path) -> None:
    header = path.read_text("utf-8").split("\ndistributed_type")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert "\n# cost " in header
    command = f"campus-tune sft --config recipe.yaml --accelerate_config recipes/accelerate/{path.name}"
    assert f"\n# command  {command}" in header


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_a_flag_overrides_the_number_of_processes_in_a_ready_file(path: Path) -> None:
    assert accelerate_arguments(path).num_processes == 2
    assert accelerate_arguments(path, "--num_processes=4").num_processes == 4


def test_the_fsdp_file_shards_by_layer_and_saves_one_whole_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.launch import prepare_multi_gpu_env

    arguments = accelerate_arguments(ROOT / "recipes/accelerate/fsdp2.yaml")
    assert arguments.use_fsdp
    for name, value in prepare_multi_gpu_env(arguments).items():
        monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.cpu_ram_efficient_loading
    assert not plugin.activation_checkpointing
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"


@pytest.mark.parametrize("stage", [2, 3])
def test_the_zero_files_leave_batch_and_clipping_to_the_recipe(stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.utils import DeepSpeedPlugin
    from accelerate.utils.launch import prepare_deepspeed_cmd_env

    arguments = accelerate_arguments(ROOT / f"recipes/accelerate/zero{stage}.yaml")
    assert arguments.use_deepspeed
    arguments.deepspeed_fields_from_accelerate_config = ""
    for name, value in prepare_deepspeed_cmd_env(arguments)[1].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("accelerate.utils.dataclasses.DeepSpeedPlugin.set_deepspeed_weakref", lambda _: None)
    plugin = DeepSpeedPlugin()
    assert plugin.deepspeed_config["zero_optimization"]["stage"] == stage
    assert plugin.deepspeed_config["gradient_accumulation_steps"] == "auto"
    assert plugin.deepspeed_config["gradient_clipping"] == "auto"
    assert plugin.zero3_init_flag is (stage == 3)
    assert plugin.zero3_save_16bit_model is (stage == 3)


@pytest.mark.parametrize("name", ["fsdp2", "multi_gpu", "single_gpu", "zero1", "zero2", "zero3"])
def test_files_that_trl_ships_are_taken_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    devices(monkeypatch, 8)
    plan = asked("sft", "--accelerate_config", name)
    assert plan.shipped
    assert problems(plan) == []
    assert read_asked(plan)[1].processes is None  # `single_gpu` says 8, and starts what it is called


# -- taking a command line apart -----------------------------------------------------------------------------------


def test_accelerates_flags_are_taken_out_and_all_others_stay_in_their_sequence() -> None:
    words = ["--config=none.yaml", "--learning_rate", "1e-4", "--gradient_accumulation_steps", "2", "--debug", "x"]
    given, rest = launching._take(["score", "--num_processes", "4", *words, "--multi_gpu", "--mixed-precision=bf16"])
    assert given == {"num_processes": "4", "multi_gpu": True, "mixed_precision": "bf16"}
    assert rest == ["score", *words]


def test_the_launched_module_is_told_everything_else(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    plan = asked("sft", "--config", path, "--accelerate_config", CPU, "--multi_gpu", "--campus.mix", "0.1")
    assert plan.arguments() == [
        f"--config_file={CPU}",
        "--multi_gpu",
        "--module",
        "campus_tune",
        *("sft", "--config", path, "--campus.mix", "0.1"),
    ]


def test_a_recipe_may_hold_the_keys_and_a_flag_wins(tmp_path: Path) -> None:
    path = recipe(
        tmp_path,
        accelerate_config=CPU,
        num_processes=8,
        multi_gpu=True,
        enable_cpu_affinity=False,
        zero3_init_flag=True,
    )
    plan = asked("proxy", "--config", path, "--num_processes", "2", "--out", "proxy")
    assert plan.config == Path(CPU)
    assert plan.flags == {"num_processes": "2", "multi_gpu": True, "zero3_init_flag": "true"}
    assert plan.words == ["proxy", "--config", path, "--out", "proxy"]


@pytest.mark.parametrize("argv", [["sft"], ["sft", "--help"], ["simulate", "--num_processes", "2"], []])
def test_nothing_asked_is_nothing_launched(argv: list[str]) -> None:
    assert read_launch(argv) is None


def test_eval_takes_every_flag_of_accelerates_and_no_yaml() -> None:
    words = ["--model", "m", "--tasks", "mmlu", "gsm8k", "--config", "no_recipe.yaml"]
    plan = asked("eval", *words, "--multi_gpu", "--num_processes=2")
    assert (plan.flags, plan.words) == ({"multi_gpu": True, "num_processes": "2"}, ["eval", *words])
    assert "num_processes" in launching._names(beside_trl=False)


@pytest.mark.parametrize("part", ["compare", "check-data"])
def test_parts_of_eval_that_ask_no_model_launch_nothing(part: str) -> None:
    assert read_launch(["eval", part, "a", "b", "--num_processes", "2"]) is None


def test_a_false_switch_alone_launches_nothing(tmp_path: Path) -> None:
    path = recipe(tmp_path, multi_gpu=False)
    assert read_launch(["sft", "--config", path]) is None
    assert read_arguments(["--config", path])[0] == {"model_name_or_path": "model"}


@pytest.mark.parametrize("sign", LAUNCHED)
def test_a_launched_process_leaves_the_keys_of_the_recipe_alone(
    sign: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sign, "0")
    path = recipe(tmp_path, accelerate_config="nowhere.yaml", num_processes=2)
    assert read_launch(["sft", "--config", path]) is None
    assert read_arguments(["--config", path])[0] == {"model_name_or_path": "model"}


def test_a_launched_process_with_flags_of_the_launcher_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(RecipeError, match=r"`--num_processes` must be given to one launcher, .* Drop it here"):
        read_launch(["sft", "--num_processes", "2"])


def test_blocks_of_commands_that_train_many_runs_are_no_unknown_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "_run", lambda _: 7)
    path = recipe(tmp_path, compare={"test": "test.jsonl"}, search={"space": {}}, num_processes=2)
    assert launch(asked("sft", "--config", path, "--multi_gpu")) == 7


def test_a_call_from_python_does_not_pass_over_the_keys(tmp_path: Path) -> None:
    path = recipe(tmp_path, num_processes=2)
    with pytest.raises(RecipeError, match=r"`num_processes` must be read by a launcher, .* take the key out"):
        read_arguments(["--config", path])
    assert unknown_in({"num_processes": 2}) == []


def test_a_misspelt_flag_of_the_launcher_is_corrected() -> None:
    plain = {"use_cpu": True, "bf16": False, CHECKPOINTING: False}
    _, found = parse_trl({**plain, "acelerate_config": "x"}, ["--num_procesess", "2"])
    assert "Did you mean 'accelerate_config'?" in found[0]
    assert "Did you mean 'num_processes'?" in found[1]


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--multi_gpu", "True"], r"`--multi_gpu` must stand alone, got the value 'True'. Write --multi_gpu alone"),
        (["--multi_gpu=false"], r"`--multi_gpu` must stand alone, got the value 'false'.* leave it out for false"),
        (["--num_processes"], r"`--num_processes` must be followed by a value, got nothing"),
        (["--num_processes", "--multi_gpu"], r"`--num_processes` must be followed by a value, got nothing"),
        (["--accelerate_config", "zero33"], r"of TRL's by name \(fsdp1, .* got 'zero33'. Did you mean 'zero3'\?"),
    ],
)
def test_a_flag_that_cannot_be_is_refused(argv: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_launch(["sft", *argv])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("multi_gpu", "true", "`multi_gpu` must be true or false, got 'true'. Write `multi_gpu: true`, no quotes"),
        ("multi_gpu", 1, "`multi_gpu` must be true or false, got 1"),
        ("mixed_precision", False, "invalid choice: 'false' .* a bare no as false"),
        ("num_processes", True, "must be one that accelerate takes, got: argument --num_processes.* invalid int value"),
    ],
)
def test_a_key_of_the_recipe_that_cannot_be_is_refused(key: str, value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        launch(asked("sft", "--config", recipe(tmp_path, **{key: value})))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("distributed_type: [", "line 2 must be YAML"),
        ("- FSDP", "must be a mapping, got list"),
        ("num_processes: 2", "must be one that accelerate takes, got: A `distributed_type` must be specified"),
        ("distributed_type: MULTIGPU", "that accelerate takes, got: 'MULTIGPU' is not a valid DistributedType"),
        ("distributed_type: FSDP\nfsdp_cnofig: {}", r"got: The config file at .* had unknown keys \(\['fsdp_cnofig'\]"),
        ("distributed_type: FSDP\nnum_processes: two", "got: invalid literal for int.* numbers are bare"),
        (
            "distributed_type: FSDP\nfsdp_config: {fsdp_versoin: 2}",
            "`fsdp_config: fsdp_versoin` must be a key .* Did you mean 'fsdp_version'",
        ),
        ("distributed_type: FSDP\nfsdp_config: {offload_parms: true}", "'fsdp_offload_params'"),
        (
            "distributed_type: DEEPSPEED\ndeepspeed_config: true",
            "`deepspeed_config` must be a mapping of settings, got True. Write its settings under it, or drop it",
        ),
        ("distributed_type: FSDP\nfsdp_config: [2]", r"`fsdp_config` must be a mapping of settings, got \[2\]"),
        ("distributed_type: FSDP\nfsdp_config: many", "`fsdp_config` must be a mapping of settings, got 'many'"),
        (
            "distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stag: 2}",
            "`deepspeed_config: zero_stag` must be a key .* Did you mean 'zero_stage'",
        ),
    ],
)
def test_a_file_that_accelerate_refuses_or_reads_in_part_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        launch(asked("sft", "--accelerate_config", str(config(tmp_path, text + "\n"))))


def test_a_file_that_is_not_there_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(
        RecipeError, match=r"recipes/accelerate/zero4.yaml` must be a readable YAML file.*'zero\d.yaml'"
    ):
        launch(asked("sft", "--accelerate_config", str(ROOT / "recipes/accelerate/zero4.yaml")))


def test_what_accelerate_itself_writes_is_read(tmp_path: Path) -> None:
    from accelerate.commands.config.default import write_basic_config

    path = tmp_path / "default.yaml"
    write_basic_config(save_location=str(path))
    older = config(
        tmp_path, "distributed_type: MULTI_GPU\nnum_processes: 2\nfp16: true\ndowncast_bf16: 'no'\ntpu_env: []\n"
    )
    for one in (path, older):
        _, wanted, wrong = read_asked(asked("sft", "--accelerate_config", str(one)))
        assert wanted.processes == (2 if one == older else 1)
        assert wrong == []


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--multi_gpu", "--num_processes", "two"], "argument --num_processes.* invalid int value: 'two'"),
        (["--multi_gpu", "--num_processes", "1"], "got: You need to use at least 2 processes to use `--multi_gpu`"),
        (["--mixed_precision", "bf61"], "invalid choice: 'bf61' .*choose from"),
        (["--multi_gpu", "--num_processes", "257"], "`num_processes` must be at most 256, got 257. Lower it"),
        (["--accelerate_config", str(ROOT / "recipes/accelerate/zero3.yaml")], "got: DeepSpeed is not installed"),
    ],
)
def test_what_accelerate_refuses_is_told_in_its_words(
    argv: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices(monkeypatch, 0)
    monkeypatch.setattr("accelerate.commands.launch.is_deepspeed_available", lambda: False)
    with pytest.raises(RecipeError, match=message):
        launch(asked("sft", *argv))


def test_more_processes_than_gpus_are_refused_unless_they_train_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices(monkeypatch, 4)
    assert problems(asked("sft", "--multi_gpu", "--num_processes", "5")) == [
        "`num_processes` must be at most 4, one per GPU, got 5. Lower it."
    ]
    for plan in (
        asked("sft", "--accelerate_config", CPU, "--num_processes", "5"),
        asked("sft", "--config", recipe(tmp_path, use_cpu=True), "--multi_gpu", "--num_processes", "5"),
        asked("sft", "--multi_gpu", "--num_processes", "8", "--num_machines", "2"),
    ):
        assert problems(plan) == []


def test_the_users_own_default_file_is_read_where_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config(tmp_path, "distributed_type: FSDP\nnum_processes: 3\nfsdp_config: {fsdp_version: 2}\n")
    monkeypatch.setattr("accelerate.commands.config.default_config_file", str(path))
    assert read_asked(asked("sft", "--mixed_precision", "no"))[1] == Asked(3, "FSDP", on_cpu=True)
    assert read_asked(asked("sft", "--num_processes", "2", "--cpu"))[1] == Asked(2, "NO", on_cpu=True)


# -- what was started is what was asked for ------------------------------------------------------------------------


def started(monkeypatch: pytest.MonkeyPatch, wanted: Asked, *, processes: int, kind: str, sign: str = "") -> None:
    """What a process sees that was launched as `wanted`, and found itself to be something."""
    from accelerate.utils import DistributedType

    monkeypatch.setenv(ASKED, "")  # taken back at the end
    wanted.hand_on()
    if sign:
        monkeypatch.setenv(sign, "true")
    state = SimpleNamespace(num_processes=processes, distributed_type=DistributedType(kind))
    monkeypatch.setattr("accelerate.PartialState", lambda: state)


@pytest.mark.parametrize(
    ("wanted", "processes", "kind", "message"),
    [
        (
            Asked(2, "MULTI_CPU"),
            1,
            "NO",
            "asked for 2 under MULTI_CPU, got 1 under NO. Under NO, MULTI_CPU and --cpu acc",
        ),
        (Asked(2, "NO"), 1, "NO", "asked for 2 under NO, got 1 under NO.* take recipes/accelerate/ddp_cpu.yaml"),
        (Asked(2), 1, "NO", "asked for 2 under no kind, got 1 under NO.* or --multi_gpu, which starts processes"),
        (Asked(0, "MULTI_GPU"), 1, "MULTI_GPU", "asked for 0 under MULTI_GPU, got 1"),
        (Asked(4, "MULTI_GPU"), 2, "MULTI_GPU", "asked for 4 under MULTI_GPU, got 2 under MULTI_GPU"),
        (Asked(2, "FSDP"), 2, "MULTI_CPU", "asked for FSDP, got 2 under MULTI_CPU. accelerate shards on accelerators"),
        (Asked(2, "DEEPSPEED"), 2, "MULTI_CPU", "asked for DEEPSPEED, got 2 under MULTI_CPU"),
        (Asked(None, "MEGATRON_LM"), 2, "MULTI_CPU", "asked for MEGATRON_LM, got 2 under MULTI_CPU"),
        (Asked(1, "XLA"), 1, "NO", "asked for XLA, got 1 under NO"),
    ],
)
def test_processes_that_are_not_what_was_asked_for_stop(
    wanted: Asked, processes: int, kind: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(monkeypatch, wanted, processes=processes, kind=kind)
    with pytest.raises(RecipeError, match=message):
        refuse_other_launch()


def test_sharding_that_nobody_asked_for_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, Asked(2, "MULTI_GPU"), processes=2, kind="MULTI_GPU", sign="ACCELERATE_USE_FSDP")
    with pytest.raises(RecipeError, match="asked for MULTI_GPU, got 2 under FSDP"):
        refuse_other_launch()


@pytest.mark.parametrize(
    ("wanted", "processes", "kind", "sign"),
    [
        (Asked(2, "MULTI_GPU"), 2, "MULTI_CPU", ""),  # DDP without a GPU
        (Asked(2, "MULTI_GPU"), 2, "MULTI_GPU", ""),
        (Asked(None, "NO"), 1, "NO", ""),
        (Asked(1, "MULTI_CPU"), 1, "NO", ""),
        (Asked(2), 2, "MULTI_GPU", ""),  # accelerate found two GPUs
        (Asked(), 1, "NO", ""),
        (Asked(2, "FSDP"), 2, "MULTI_GPU", "ACCELERATE_USE_FSDP"),
        (Asked(2, "FSDP"), 2, "FSDP", ""),
        (Asked(2, "DEEPSPEED"), 2, "DEEPSPEED", ""),
    ],
)
def test_processes_that_are_what_was_asked_for_go_on(
    wanted: Asked, processes: int, kind: str, sign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(monkeypatch, wanted, processes=processes, kind=kind, sign=sign)
    refuse_other_launch()


def test_problems_of_launch_and_recipe_are_told_together_and_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(tmp_path, learning_rte=1.0, env=[], campus={"metrics": ["lenght"]})
    assert campus_tune(["sft", "--config", path, "--cpu", "--num_processes", "999"]) == 2
    told = capsys.readouterr().err
    for part in ("must be at most 256", "'learning_rate'", "'length'", "`env` must be a mapping"):
        assert told.count(part) == 1


# -- running it ----------------------------------------------------------------------------------------------------


def launcher(monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None) -> list[Any]:
    """Stands where accelerate's launcher would; keeps what it is given."""
    import accelerate.commands.launch

    seen: list[Any] = []

    def start(arguments: Any) -> None:
        seen.append(arguments)
        if error is not None:
            raise error

    monkeypatch.setattr(accelerate.commands.launch, "launch_command", start)
    return seen


def test_accelerate_is_given_module_and_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = launcher(monkeypatch)
    path = recipe(tmp_path, accelerate_config=CPU, env={"CAMPUS_TUNE_TEST_OF_ENV": 7})
    assert campus_tune(["--debug", "sft", "--config", path, "--num_processes", "3"]) == 0
    assert (seen[0].training_script, seen[0].module, seen[0].num_processes) == ("campus_tune", True, 3)
    assert seen[0].training_script_args == ["sft", "--config", path, "--debug"]
    assert os.environ["CAMPUS_TUNE_TEST_OF_ENV"] == "7"
    assert os.environ["ACCELERATE_USE_CPU"] == "true"


def test_eval_launches_itself_and_says_once_what_is_wrong_with_its_flags(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = launcher(monkeypatch)
    words = ["loss", "--model", "m", "--test", "t.jsonl"]
    assert campus_tune(["eval", *words, "--accelerate_config", CPU, "--num_processes", "3"]) == 0
    assert (seen[0].training_script_args, seen[0].num_processes) == (["eval", *words], 3)
    assert campus_tune(["eval", "--limt", "3", "--accelerate_config", CPU]) == 2
    assert "got '--limt'. Did you mean '--limit'?" in capsys.readouterr().err
    assert len(seen) == 1


def failures() -> dict[str, tuple[BaseException, int, str]]:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    class FailedError(ChildFailedError):
        def __init__(self, code: int) -> None:
            Exception.__init__(self)
            self.code = code

        def get_first_failure(self) -> Any:
            return 1, SimpleNamespace(exitcode=self.code)

    return {
        "a rank's exit code": (FailedError(2), 2, "rank 1 ended with exit code 2"),
        "a rank's signal": (FailedError(-9), 137, "rank 1 was ended by SIGKILL"),
        "one process": (subprocess.CalledProcessError(3, "python"), 3, "the process ended with exit code 3"),
        "ours": (SignalException("", signal.SIGTERM), 143, "the job was ended by SIGTERM"),
    }


@pytest.mark.parametrize("case", ["a rank's exit code", "a rank's signal", "one process", "ours"])
def test_the_exit_code_is_that_of_the_process_which_failed_first(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error, code, told = failures()[case]
    launcher(monkeypatch, error)
    assert campus_tune(["sft", "--accelerate_config", CPU]) == code
    assert told in capsys.readouterr().err


def test_what_accelerate_refuses_by_itself_is_a_message_too(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher(monkeypatch, ValueError("You can only use one of"))
    with pytest.raises(RecipeError, match="must be one that accelerate takes, got: You can only use one of"):
        launch(asked("sft", "--accelerate_config", CPU))


WAITING = """
import os, subprocess, sys
from campus_tune.cli.launch import LAUNCHER, _signals_handed_on
os.environ[LAUNCHER] = str(os.getpid())
with _signals_handed_on():
    subprocess.Popen([sys.executable, "-c", '''
from campus_tune.cli.launch import end_with_launcher
end_with_launcher()
print("started", flush=True)
import time
time.sleep(120)
''']).wait()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_launcher_that_is_ended_leaves_no_process_behind(number: int) -> None:
    command = [sys.executable, "-c", WAITING]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"started\n"
        running.send_signal(number)
        running.communicate(timeout=300)  # until the last one that could write has ended


def test_help_shows_how_to_launch(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        campus_tune(["sft", "--help"])
    told = capsys.readouterr().out
    assert "--accelerate_config recipes/accelerate/fsdp2.yaml --num_processes 4" in told
    assert "multi_gpu: true, no quotes" in told


def test_every_flag_of_accelerates_that_we_rely_on_is_still_there() -> None:
    needed = {"num_processes", "num_machines", "mixed_precision", "fsdp_version", *KINDS}
    assert needed <= set(launch_flags())


@pytest.mark.slow
def test_two_processes_train_one_run(tmp_path: Path) -> None:
    from campus_tune.demo.tasks import write_tasks
    from campus_tune.demo.tiny import write_tiny

    write_tasks(tmp_path, rows_per_cell=2, probes_per_cell=1, tests_per_cell=1)
    path = recipe(
        tmp_path,
        model_name_or_path=str(write_tiny(tmp_path / "model")),
        dataset_name=str(tmp_path / "train.jsonl"),
        output_dir=str(tmp_path / "out"),
        per_device_train_batch_size=4,
        max_steps=2,
        bf16=False,
        **{CHECKPOINTING: False},
        report_to="none",
        save_strategy="no",
        accelerate_config=CPU,
        campus={"metrics": ["length"], "selector": "round_robin", "stages": 1},
    )
    command = [sys.executable, "-m", "campus_tune", "sft", "--config", path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    events = read_ledger(tmp_path / "out/curriculum/ledger.jsonl")
    assert events[0]["batch"] == {"micro": 4, "world": 2, "accumulation": 1, "cut": "even"}
    assert events[0]["past"]["global_batch"] == 8
    assert events[-1]["event"] == "end"
    assert "order audit: all 2 steps trained the planned rows, tokens and labels on all 2 ranks" in done.stdout
    assert json.loads((tmp_path / "out/config.json").read_text())["model_type"]
    assert read_yaml(tmp_path / "out/curriculum/recipe.yaml")["campus"]["metrics"] == ["length"]


@pytest.mark.slow
def test_one_process_in_place_of_two_stops_before_a_model_is_looked_for(tmp_path: Path) -> None:
    path = recipe(tmp_path, model_name_or_path=str(tmp_path / "nowhere"), output_dir=str(tmp_path / "out"))
    command = [sys.executable, "-m", "campus_tune", "sft", "--config", path, "--bf16", "false"]
    command += [f"--{CHECKPOINTING}", "false"]
    done = subprocess.run([*command, "--cpu", "--num_processes", "2"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "`num_processes` must be what starts, asked for 2 under NO, got 1 under NO. Under" in done.stderr
    assert not (tmp_path / "out").exists()
