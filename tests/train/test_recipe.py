"""The recipe: where keys come from, what an error says, and what "the same run" means."""

from pathlib import Path

import pytest

from carryover.ground.errors import WrongInput
from carryover.train import recipe as recipes


def flat(recipe: str = "", *overrides: str) -> dict:
    return recipes.make(recipes.given(recipe, overrides)).flat()


def identity(recipe: str = "", *overrides: str) -> dict:
    return recipes.identity(recipes.make(recipes.given(recipe, overrides)))


def key_of(*overrides: str) -> str:
    return recipes.run_key("d" * 64, "", identity("", *overrides))


def test_the_names_that_others_know() -> None:
    text = """
optim:
  lr: 2e-5
  top_k: null
env.num_workers_inference: 1
"""
    with pytest.raises(WrongInput, match=r"^optimization\.top_k: None is not possible; it must be int"):
        flat(text)
    assert flat("", "optimization.loss_function=focal_loss")["optimization.loss_func"] == "focal_loss"
    found = flat(text.replace("  top_k: null\n", ""), "optim.patience=3", "env.inference_batch_size_ratio=2")
    assert found["optimization.learning_rate"] == 2e-5
    assert found["optimization.patience"] == 3
    assert found["env.num_workers_evaluation"] == 1
    assert found["env.eval_batch_size_ratio"] == 2.0
    assert flat("", "optimization.lr=0.5") == flat("", "optimization.learning_rate=0.5")
    assert (
        flat("data.label.numerical_label_preprocessing: minmaxscaler")["data.label.numerical_preprocessing"]
        == "minmaxscaler"
    )


def test_what_people_write_becomes_what_is_meant() -> None:
    model = ("model.names=[hf_text, hf_text_2, fusion_mlp]", "model.hf_text_2.checkpoint_name=x/y")
    numbers = ("env.precision=32", "optimization.learning_rate=1e-4", "env.batch_size=64.0")
    found = flat("", *model, *numbers, "data.pos_label=yes")
    assert found["env.precision"] == "32"
    assert found["optimization.learning_rate"] == 1e-4
    assert found["model.hf_text_2.checkpoint_name"] == "x/y"
    assert found["env.batch_size"] == 64
    assert found["data.pos_label"] is True


def test_a_file_a_text_and_flags(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("seed: 1\nenv:\n  batch_size: 16\n")
    assert flat(str(file)) == flat(file.read_text()) == flat("{seed: 1, env: {batch_size: 16}}")
    assert flat(str(file), "seed=2", "seed=3")["seed"] == 3
    assert flat(str(file), "seed=2")["env.batch_size"] == 16
    # A recipe that is being written: sections without keys, no recipe at all.
    assert flat("env:\noptimization:\nseed: 5")["seed"] == 5
    assert flat("env:") == flat("") == flat("{}") == flat("# nothing\n")


@pytest.mark.parametrize(
    ("override", "want"),
    [
        ("optimization.learning_rates=1", "unknown key; did you mean 'optimization.learning_rate'?"),
        ("learning_rate=1", "unknown key; did you mean 'optimization.learning_rate'?"),
        ("model.hf_text.max_len=3", "unknown key; did you mean 'model.hf_text.max_text_len'?"),
        ("env=3", "is a section; it needs keys below it, such as 'env.batch_size'"),
        ("model=3", "3 is not possible; it must be a section with keys of its own"),
        ("seed=x", "'x' is not possible; it must be int"),
        ("seed=-1", "-1 is not possible; it must be 0 or above"),
        ("seed.x=1", "unknown key; did you mean 'seed'?"),
        ("optimization.learning_rate=0", "0.0 is not possible; it must be above 0"),
        ("optimization.learning_rate=.inf", "inf is not possible; it must be a finite number"),
        ("optimization.weight_decay=-1", "-1.0 is not possible; it must be 0 or above"),
        ("optimization.optim_type=lion", "'lion' is not possible; it must be one of adamw, adam, sgd, adafactor"),
        ("optimization.lr_schedule=cosine", "'cosine' is not possible; it must be one of cosine_decay, ..."),
        ("optimization.end_lr=1", "1.0 is not possible; it must be between 0 and learning_rate"),
        ("optimization.lr_choice=one", "'one' is not possible; it must be one of layerwise_decay, two_stages, \"\""),
        ("optimization.lr_decay=1.1", "1.1 is not possible; it must be above 0, at most 1"),
        ("optimization.lr_mult=0", "0.0 is not possible; it must be above 0"),
        ("optimization.lr_power=0", "0.0 is not possible; it must be above 0"),
        ("optimization.lr_milestones=[5, 3]", "[5, 3] is not possible; it must be epochs from 1 on, ascending"),
        ("optimization.lr_gamma=2", "2.0 is not possible; it must be above 0, at most 1"),
        ("optimization.check_val_every_n_epoch=0", "0 is not possible; it must be 1 or more"),
        ("optimization.track_grad_norm=l2", "'l2' is not possible; it must be -1 (off), a number above 0, or inf"),
        ("optimization.loss_func=hinge", "'hinge' is not possible; it must be one of auto, focal_loss, ..."),
        ("optimization.loss_func=mask2former_loss", "'mask2former_loss' is of proposals that are matched with..."),
        ("optimization.focal_loss.gamma=-1", "-1.0 is not possible; it must be 0 or above"),
        ("optimization.focal_loss.reduction=none", "'none' is not possible; it must be mean or sum..."),
        ("optimization.label_smoothing=1", "1.0 is not possible; it must be from 0 to below 1"),
        ("optimization.top_k=0", "0 is not possible; it must be 1 or more"),
        ("optimization.top_k_average_method=soup", "'soup' is not possible; it must be one of greedy_soup, ..."),
        ("optimization.lemda.turn_on=true", "augmentation by a second, adversarial network (LeMDA) is not there..."),
        ("optimization.cross_modal_align=kl", "matching of pairs by a contrastive loss is not there..."),
        ("optimization.warmup_steps=1.5", "1.5 is not possible; it must be a fraction..."),
        ("optimization.max_epochs=0", "0 is not possible; it must be 1 or more"),
        ("optimization.max_steps=0", "0 is not possible; it must be -1 or 1 or more"),
        ("optimization.patience=0", "0 is not possible; it must be 1 or more"),
        ("optimization.val_check_interval=0", "0 is not possible; it must be a fraction..."),
        ("optimization.gradient_clip_algorithm=l2", "'l2' is not possible; it must be norm or value"),
        ("env.batch_size=0", "0 is not possible; it must be 1 or more"),
        ("env.precision=8", "'8' is not possible; it must be one of auto, 32, bf16-mixed, 16-mixed, 64"),
        ("env.accelerator=tpu", "'tpu' is not possible; it must be one of auto, cpu, gpu"),
        ("env.deterministic=1", "1 is not possible; it must be bool"),
        ("resume.schedule=again", "'again' is not possible; it must be one of auto, stretch, constant, rewarm"),
        ("checkpoint.keep_last=0", "0 is not possible; it must be at least 1"),
        ("checkpoint.max_lost_seconds=0", "0.0 is not possible; it must be above 0"),
        ("model.names=hf_text", "'hf_text' is not possible; it must be a list"),
        ("model.hf_txt.max_text_len=3", "unknown key; did you mean 'model.hf_text.max_text_len'?"),
        ("model.numerical_mlp.drop_rate=1", "1.0 is not possible; it must be at least 0 and below 1"),
        ("data.label.numerical_preprocessing=log", "'log' is not possible; it must be one of ..."),
    ],
)
def test_a_wrong_value_is_one_line_that_starts_with_the_dotted_path(override: str, want: str) -> None:
    name = override.partition("=")[0]
    assert_says("", [override], f"{name}: {want}")


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ("optim: {batchsize: 3}", "optimization.batchsize: unknown key; did you mean 'env.batch_size'?"),
        ("--set seed", "--set seed: must be KEY=VALUE, e.g. optimization.learning_rate=2e-5"),
        ("--set =3", "--set =3: must be KEY=VALUE, e.g. optimization.learning_rate=2e-5"),
        ("--set seed=[1", "--set seed=[1: the value is no YAML: ..."),
        ("seed: 1\nseed.x: 2", "seed.x: 'seed' has a value of its own, so it can't have keys below it"),
        ("seed: [1\n", "recipe: no YAML: ..."),
        ("- seed\n- 1\n", "recipe: must be a YAML mapping of keys, not list"),
        ("no-such.yaml", "recipe no-such.yaml: can't be read: No such file or directory"),
        ("/", "recipe /: can't be read: Is a directory"),
        (
            "optim: {lr: 1}\noptimization: {learning_rate: 2}",
            "optimization.learning_rate: given twice in the recipe, as 1 and as 2",
        ),
    ],
)
def test_a_wrong_recipe_is_one_line(given: str, want: str) -> None:
    flag = given.startswith("--set ")
    assert_says("" if flag else given, [given.removeprefix("--set ")] if flag else [], want)


def assert_says(recipe: str, overrides: list[str], want: str) -> None:
    """Check the error's words; where they end in "..." only how it begins."""
    with pytest.raises(WrongInput) as error:
        flat(recipe, *overrides)
    said, start = str(error.value), want.removesuffix("...")
    assert "\n" not in said
    assert said.startswith(start) if start != want else said == want


def test_a_recipe_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\x00seed")
    with pytest.raises(WrongInput, match="it is no UTF-8 text"):
        flat(str(tmp_path / "recipe.yaml"))


def test_every_default_is_possible_and_every_key_is_explained() -> None:
    known = recipes.keys()
    found = flat()
    assert found.keys() == known.keys()
    assert recipes.make(found).flat() == found
    assert all(info.help for info in known.values())
    assert identity() == {}


def test_identity_is_what_can_change_the_result() -> None:
    assert identity("", "env.num_workers=7", "env.num_workers_evaluation=0", "env.per_gpu_batch_size=3",
                    "env.eval_batch_size_ratio=1", "env.accelerator=cpu", "checkpoint.every_steps=5",
                    "checkpoint.keep_last=9", "optimization.log_every_n_steps=1", "resume.schedule=rewarm",
                    "data.record_samples=true") == {}  # fmt: skip
    assert identity("", "seed=1", "optim.lr=0.5", "optimization.max_epochs=20", "model.names=[numerical_mlp]") == {
        "seed": 1,
        "optimization.learning_rate": 0.5,
        "model.names": ["numerical_mlp"],
    }
    known = recipes.keys()
    plain = {name for name, info in known.items() if not info.identity}
    assert {name.partition(".")[0] for name in plain} == {
        "env", "checkpoint", "optimization", "resume", "data", "model", "presets",
    }  # fmt: skip
    assert {name for name in known if name.startswith("checkpoint.")} <= plain
    # What may change on a run that exists, by the declared policy.
    assert {name for name, info in known.items() if info.identity and info.mutable} == {
        "env.batch_size", "env.group_by_length", "env.precision",
        "optimization.learning_rate", "optimization.lr_schedule",
        "optimization.end_lr", "optimization.warmup_steps", "optimization.max_epochs", "optimization.max_steps",
        "optimization.patience", "optimization.val_check_interval", "optimization.lr_choice", "optimization.lr_decay",
        "optimization.check_val_every_n_epoch", "optimization.skip_final_val", "optimization.top_k",
        "optimization.top_k_average_method", "optimization.lr_mult",
        "optimization.lr_power", "optimization.lr_milestones", "optimization.lr_gamma", "env.compile.turn_on",
        "env.compile.mode", "env.compile.dynamic", "env.compile.backend",
    }  # fmt: skip


def test_run_keys_are_those_of_runs_that_exist() -> None:
    """Golden: another value here would make every run in every store start from zero."""
    assert key_of() == "8dbe5229280e042fbe028d77"
    assert (
        key_of("seed=1", "optim.lr=2e-5", "model.names=[hf_text]", "optimization.warmup_steps=3")
        == "239553e3accff38c4703ea39"
    )


def test_automms_word_for_one_rate_is_known() -> None:
    assert key_of("optim.lr_choice=single_stage") == key_of("optimization.lr_choice=''")


def test_run_keys_are_typed_and_do_not_depend_on_spelling() -> None:
    assert key_of("optim.lr=0.00002") == key_of("optimization.learning_rate=2e-5")
    assert key_of("optimization.max_epochs=20") == key_of()
    assert key_of("optimization.val_check_interval=1") != key_of("optimization.val_check_interval=1.0")
    assert key_of("data.pos_label=1") != key_of("data.pos_label=true") != key_of("data.pos_label='1'")
    one = identity("", "seed=1")
    assert recipes.run_key("d" * 64, "", one) != recipes.run_key("e" * 64, "", one)
    assert recipes.run_key("d" * 64, "", one) != recipes.run_key("d" * 64, "p" * 64, one)


def test_a_folder_counts_by_its_content(tmp_path: Path) -> None:
    def named(folder: str) -> str:
        return f"model.hf_text.checkpoint_name={tmp_path / folder}"

    for folder in ("a", "b", "c"):
        (tmp_path / folder / "sub").mkdir(parents=True)
        (tmp_path / folder / "config.json").write_text("{}")
        (tmp_path / folder / "sub" / "vocab.txt").write_text("a")
    assert key_of(named("a")) == key_of(named("b"))
    (tmp_path / "c" / "sub" / "vocab.txt").write_text("b")
    assert key_of(named("a")) != key_of(named("c"))
    (tmp_path / "b" / "more").touch()
    assert key_of(named("a")) != key_of(named("b"))
    # A run goes on from a folder that was moved, not from another one.
    old, moved = recipes.make(recipes.given("", [named("a")])), tmp_path / "moved"
    was = recipes.identity(old)
    (tmp_path / "a").rename(moved)
    new = recipes.make(recipes.given("", [named("moved")]))
    changes = recipes.check_changes(old.flat(), new, run="k", was=was)
    assert changes == {"model.hf_text.checkpoint_name": str(moved)}
    with pytest.raises(WrongInput, match=r"^model\.hf_text\.checkpoint_name: run k has "):
        recipes.check_changes(old.flat(), recipes.make(recipes.given("", [named("c")])), run="k", was=was)


def test_what_may_change_in_a_run_that_exists() -> None:
    old = flat("", "optimization.val_check_interval=1.0", "seed=1")

    def changes(*overrides: str) -> dict:
        new = recipes.make({**old, **recipes.given("", overrides)})
        return recipes.check_changes(old, new, run="k")

    assert changes() == {}
    assert changes("optimization.max_epochs=30", "env.num_workers=0") == {
        "optimization.max_epochs": 30,
        "env.num_workers": 0,
    }
    assert changes("optimization.val_check_interval=1") == {"optimization.val_check_interval": 1}
    for override, before, asked in [
        ("seed=2", "1", "2"),
        ("model.numerical_mlp.hidden_size=9", "128", "9"),
        ("data.pos_label=yes", "None", "True"),
        ("optimization.optim_type=sgd", "'adamw'", "'sgd'"),
        ("env.deterministic=false", "True", "False"),
    ]:
        with pytest.raises(WrongInput) as error:
            changes(override)
        assert str(error.value) == (
            f"{override.partition('=')[0]}: run k has {before}, asked for {asked}; this can't change in a run that "
            "exists. Leave out --run-key for a new run, or leave out the key to go on as before"
        )


def test_a_run_of_an_older_version_lacks_a_key() -> None:
    """What run.json does not say had the default of today's version at the time; it is no change."""
    old = flat("", "seed=1")
    del old["model.names"], old["env.deterministic"]
    assert recipes.check_changes(old, recipes.make(recipes.given("", ["seed=1"])), run="k") == {}


def test_keys_that_came_later_do_not_alter_a_run() -> None:
    """A run of before had one learning rate and its best weights; by its key it goes on with these."""
    old = {name: value for name, value in flat("", "seed=1").items() if name not in recipes.FORMER}
    settings = recipes.settings_of(old, {"optimization.max_epochs": 30})
    made = recipes.make(settings).flat()
    assert {name: made[name] for name in recipes.FORMER} == recipes.FORMER
    assert recipes.check_changes(settings, recipes.make(settings), run="k") == {}
    new = flat("", "seed=1")
    assert recipes.settings_of(new, {}) == new
    assert all(recipes.keys()[name].default != value for name, value in recipes.FORMER.items())
