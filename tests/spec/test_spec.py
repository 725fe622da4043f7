import pytest
import yaml

from cfgbench.errors import UserError
from cfgbench.spec import ClassifierSection, Model, Sampling, Training, load_sweep, make_cells, networks_of, resolved
from cfgbench.spec.yaml_file import dump_yaml, load_yaml

BASE = """
name: small
dataset: {name: digits}
model: {name: unet, channels: 16, multipliers: [1, 2]}
training: {steps: 10, learning_rate: 2e-3}
sampling: {samples: 100, batch_size: 50}
evaluation: {features: digits, metrics: [fid, is]}
grid:
  p_uncond: [0.1, 0.5]
  w: [0, 0.1, 4]
  T: [4]
"""


@pytest.fixture
def sweep(tmp_path):
    def write(old="", new=""):
        assert old in BASE
        path = tmp_path / "sweep.yaml"
        path.write_text(BASE.replace(old, new) if old else BASE)
        return path

    return write


def cells(path, data="d", features="f"):
    return make_cells(load_sweep(path), data=data, features=features)


def test_the_grid_is_the_product_of_its_lists_in_the_files_order(sweep):
    found = [(cell.training.p_uncond, cell.sampling.w, cell.sampling.T) for cell in cells(sweep())]
    assert found == [(p, w, 4) for p in (0.1, 0.5) for w in (0, 0.1, 4)]
    assert [cell.nfe for cell in cells(sweep())] == [4, 8, 8] * 2
    assert load_sweep(sweep()).training.learning_rate == 0.002


@pytest.mark.parametrize(
    ("guidance", "passes"),
    [
        ("cfg", {-1: 1, -0.5: 2, 0: 1, 0.3: 2, 4: 2}),
        ("classifier", {-1: 3, -0.5: 3, 0: 1, 0.3: 3, 4: 3}),
        ("score-scale", {-0.5: 1, 0: 1, 0.3: 1, 4: 1}),
    ],
)
def test_passes_are_those_of_the_branches_and_of_a_classifier_there_and_back(guidance, passes):
    for on in ("conditional", "unconditional"):
        assert {w: Sampling(guidance=guidance, on=on, w=w).passes for w in passes} == passes


def test_cells_that_are_one_stand_where_the_first_came(sweep):
    grids = "grid:\n  - {v: [0], w: [0, 1]}\n  - {v: [0.5], w: [0]}"  # ddim has no variance
    path = sweep("grid:\n  p_uncond: [0.1, 0.5]\n  w: [0, 0.1, 4]\n  T: [4]", f"{grids}\n")
    path.write_text(path.read_text().replace("samples: 100", "samples: 100, sampler: ddim"))
    assert [cell.axes for cell in cells(path)] == [{"v": 0, "w": 0}, {"v": 0, "w": 1}]


def test_p_uncond_trains_a_network_each_and_w_samples_it(sweep):
    found = cells(sweep())
    assert len({cell.checkpoint_id for cell in found}) == 2
    assert len({cell.id for cell in found}) == 6


@pytest.mark.parametrize(
    "change",
    [
        ("batch_size: 50", "batch_size: 7"),
        ("batch_size: 50", "batch_size: auto"),
        ("name: small", "name: other"),
        ("[0, 0.1, 4]", "[0.0, 1e-1, 4]"),
        ("[fid, is]", "[is, fid]"),
        ("features: digits, ", ""),
    ],
)
def test_what_does_not_decide_the_numbers_does_not_change_the_identity(sweep, change):
    before = {cell.id for cell in cells(sweep())}
    assert {cell.id for cell in cells(sweep(*change))} == before


@pytest.mark.parametrize(
    "change",
    [
        ("steps: 10", "steps: 11"),
        ("samples: 100", "samples: 101"),
        ("channels: 16", "channels: 32"),
        ("batch_size: 50", "v: 0.2"),
        ("batch_size: 50", "seed: 1"),
        ("batch_size: 50", "clip: false"),
        ("T: [4]", "T: [5]"),
        ("batch_size: 50", "sampler: ddim"),
        ("[fid, is]", "[fid]"),
    ],
)
def test_what_decides_the_numbers_changes_the_identity(sweep, change):
    before = {cell.id for cell in cells(sweep())}
    assert not {cell.id for cell in cells(sweep(*change))} & before


def test_data_and_features_are_in_the_identity_by_content(sweep):
    before = {cell.id for cell in cells(sweep())}
    assert not {cell.id for cell in cells(sweep(), data="e")} & before
    assert not {cell.id for cell in cells(sweep(), features="g")} & before


def test_the_variance_exponent_means_nothing_to_ddim(sweep):
    a = cells(sweep("batch_size: 50", "sampler: ddim, v: 0.1"))
    assert [cell.id for cell in a] == [cell.id for cell in cells(sweep("batch_size: 50", "sampler: ddim, v: 0.9"))]


def test_any_scalar_of_training_or_sampling_may_be_an_axis(sweep):
    found = cells(sweep("T: [4]", "learning_rate: [1e-3, 2e-3]\n  sampling.seed: [0, 1]"))
    assert len(found) == 24
    assert {cell.training.learning_rate for cell in found} == {1e-3, 2e-3}
    assert {cell.sampling.seed for cell in found} == {0, 1}


GRID = "\n  p_uncond: [0.1, 0.5]\n  w: [0, 0.1, 4]\n  T: [4]"
SEVERAL = """
  - {p_uncond: [0.1, 0.5], w: [0, 1]}
  - {guidance: [classifier], on: [conditional, unconditional], w: [1]}
  - {w: [0, 1], p_uncond: [0.1]}
  - {temperature: [1, 0.9]}
"""


def several(sweep, old="", new=""):
    text = SEVERAL.replace(old, new) if old else SEVERAL
    return sweep(GRID, text)


def test_several_grids_are_one_after_the_other_and_each_point_once(sweep):
    found = [
        (cell.training.p_uncond, cell.sampling.guidance, cell.sampling.on, cell.sampling.temperature, cell.sampling.w)
        for cell in cells(several(sweep))
    ]
    cfg = [(p, "cfg", "conditional", 1, w) for p in (0.1, 0.5) for w in (0, 1)]
    classifier = [(0.1, "classifier", on, 1, 1) for on in ("conditional", "unconditional")]
    assert found == [*cfg, *classifier, (0.1, "cfg", "conditional", 0.9, 0)]


def test_an_axis_of_one_grid_has_its_value_in_the_others_too(sweep):
    found = [cell.axes for cell in cells(sweep(GRID, " [{w: [0, 1]}, {w: [1, 2], clip: [true, false]}]"))]
    assert [axes["clip"] for axes in found] == [True, True, False, True, False]
    assert [axes["w"] for axes in found] == [0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "change",
    [
        ("name: small", 'name: "1e4"'),
        ("name: small", 'name: "007"'),
        ("{name: digits}", '{name: digits, classes: ["1", "1e3", "yes"]}'),
        ("multipliers: [1, 2]}", "multipliers: [1, 2], heads: 2}\nclassifier: {model: {heads: null}}"),
    ],
)
def test_words_that_look_like_numbers_survive_the_resolved_sweep(sweep, tmp_path, change):
    path, again = sweep(*change), tmp_path / "again.yaml"
    path.write_text(path.read_text().replace("p_uncond: [0.1, 0.5]", "guidance: [cfg, classifier]"))
    again.write_text(dump_yaml(resolved(load_sweep(path))))
    assert resolved(load_sweep(again)) == resolved(load_sweep(path))
    assert [cell.id for cell in cells(again)] == [cell.id for cell in cells(path)]


def test_one_grid_and_a_list_of_it_are_the_same(sweep):
    listed = sweep(GRID, "\n  - {p_uncond: [0.1, 0.5], w: [0, 0.1, 4], T: [4]}")
    before = [cell.id for cell in cells(listed)]
    assert [cell.id for cell in cells(sweep())] == before


@pytest.mark.parametrize("key", ["w", "p_uncond"])
def test_the_first_of_what_is_merged_stands_and_over_it_what_is_written(tmp_path, key):
    """However often it is merged, and however long the key is."""
    path = tmp_path / "x.yaml"
    inner = f"{{<<: [{{{key}: 1, T: 1}}, {{{key}: 2, T: 2, v: 2}}], {key}: 3}}"
    path.write_text(
        f"a: &a {inner}\nb: &b {{<<: *a, v: 4}}\nc: {{<<: [*b, *a]}}\nd: {{<<: [{{T: 5}}, *b], {key}: 6}}\n"
    )
    wanted = {"a": {key: 3, "T": 1, "v": 2}, "b": {key: 3, "T": 1, "v": 4}, "c": {key: 3, "T": 1, "v": 4}}
    assert load_yaml(path) == wanted | {"d": {key: 6, "T": 5, "v": 4}}


def test_what_a_cell_does_not_use_is_not_in_its_identity(sweep):
    before = {cell.id for cell in cells(sweep())}
    for change in ("temperature: 1.0", "on: conditional"):
        assert {cell.id for cell in cells(sweep("batch_size: 50", change))} == before
    assert {cell.id for cell in cells(sweep("grid:", "classifier: {training: {steps: 3}}\ngrid:"))} == before
    assert not {cell.id for cell in cells(sweep("batch_size: 50", "temperature: 0.9"))} & before


def test_the_classifier_is_in_the_identity_of_what_it_guides_alone(sweep):
    first = cells(several(sweep))
    path = several(sweep)
    path.write_text(path.read_text().replace("grid:", "classifier: {training: {steps: 3, p_uncond: 0.7}}\ngrid:"))
    second = cells(path)
    changed = [one.id != other.id for one, other in zip(first, second, strict=True)]
    assert changed == [cell.sampling.guidance == "classifier" for cell in first]
    assert len({cell.classifier.id for cell in first if cell.classifier}) == 1


def test_at_w_0_there_is_no_classifier_whatever_the_rule(sweep):
    path = several(sweep, "unconditional], w: [1]", "unconditional], w: [0, 1]")
    first = cells(path)
    path.write_text(path.read_text().replace("grid:", "classifier: {training: {steps: 3}}\ngrid:"))
    changed = [one.id != other.id for one, other in zip(first, cells(path), strict=True)]
    guided = [cell.sampling.guidance == "classifier" and cell.sampling.w != 0 for cell in first]
    assert changed == guided == [cell.classifier is not None for cell in first]
    assert len({cell.id for cell in first}) == len(first)


def test_the_classifier_takes_what_is_not_given_from_the_network(sweep):
    path = several(sweep)
    text = path.read_text().replace("grid:", "classifier: {model: {blocks: 2}, training: {steps: 3}}\ngrid:")
    path.write_text(text.replace("p_uncond: [0.1, 0.5], w", "p_uncond: [0.1], w"))
    (one,) = {cell.classifier.id: cell.classifier for cell in cells(path) if cell.classifier}.values()
    assert (one.model.channels, one.model.blocks) == (16, 2)
    assert (one.training.steps, one.training.learning_rate, one.training.p_uncond) == (3, 2e-3, 0)
    before = [cell.id for cell in cells(path)]
    path.write_text(yaml.safe_dump(resolved(load_sweep(path))))
    assert [cell.id for cell in cells(path)] == before


def test_the_identities_of_earlier_versions_stand(sweep):
    # made by the version before guidance had names; rows that people have must not be made again
    found = cells(sweep())
    assert found[0].id == "7ebece906df70b5a"
    assert found[-1].checkpoint_id == "a71f927fff5ae186"


def test_the_resolved_sweep_reads_back_to_the_same_cells(sweep, tmp_path):
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(resolved(load_sweep(sweep()))))
    assert [cell.id for cell in cells(again)] == [cell.id for cell in cells(sweep())]
    assert "classifier" not in again.read_text()
    again.write_text(yaml.safe_dump(resolved(load_sweep(several(sweep)))))
    assert [cell.id for cell in cells(again)] == [cell.id for cell in cells(several(sweep))]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps:", "stepz:", "training.stepz: unknown key; did you mean steps?"),
        ("dataset:", "datast:", "datast: unknown key; did you mean dataset?"),
        ("T: [4]", "T: [4]\n  T: [8]", "key 'T' stands there twice"),
        ("T: [4]", "<<: {T: [4], T: [8]}", "key 'T' stands there twice"),
        ("T: [4]", "<<: [{T: [4]}, {v: [0], v: [1]}]", "key 'v' stands there twice"),
        ("T: [4]", "<<: {<<: {T: [4], T: [8]}}", "key 'T' stands there twice"),
        ("T: [4]", "<<: {T: [4]}\n  <<: {v: [0]}", "key '<<' stands there twice"),
        ("T: [4]", "<<: 5", "line 11: <<: takes a mapping, or a list of mappings"),
        ("T: [4]", "<<: [{T: [4]}, [5]]", "<<: takes a mapping, or a list of mappings"),
        ("T: [4]", "<<: {1: [4]}", "key 1: keys are words"),
        ("T: [4]", ".T: [4]", "grid..T: not a key of training or sampling; did you mean T?"),
        ("T: [4]", "sampling..T: [4]", "grid.sampling..T: not a key of training or sampling"),
        ("name: small", "name: small.yaml", "name = 'small.yaml': would be taken for a file; name it small"),
        ("name: small", "name: a.YAML", "name = 'a.YAML': would be taken for a file; name it a"),
        ("name: small", "name: small.v2.yml", "would be taken for a file; name it small.v2"),
        ("p_uncond: [0.1, 0.5]", "p_uncond: [1.2]", "grid.p_uncond[0] = 1.2: should be less than or equal to 1"),
        ("batch_size: 50", "batch_size: 0", "sampling.batch_size = 0: should be auto, or a number of"),
        ("batch_size: 50", "batch_size: many", "sampling.batch_size = 'many': should be auto, or a number"),
        ("batch_size: 50", "p_uncond: 1.2", "sampling.p_uncond: unknown key"),
        ("steps: 10", "p_uncond: 1.2", "training.p_uncond = 1.2"),
        ("steps: 10", "steps: 1e3", "training.steps = 1000.0: should be a valid integer, without point or exponent"),
        (
            "model: {name: unet, channels: 16, multipliers: [1, 2]}",
            "model: {checkpoint: x.pt, fromat: adm}",
            "model.fromat: unknown key; did you mean format? (and 1 more)",
        ),
        ("[fid, is]", "[]", "evaluation.metrics = []: should have at least one element"),
        ("features: digits, ", "reference: '', ", "evaluation.reference = '': empty; name a file or folder, or leave"),
        ("features: digits, ", "show: [1, true], ", "evaluation.show[1] = True: should be"),
        ("[fid, is]", "''", "evaluation.metrics = '': should be a valid list, such as [fid, is]"),
        (
            "{name: digits}",
            "{name: digits, classes: x}",
            "= 'x': should be a valid integer, or a list, such as [cat, dog]",
        ),
        (
            "{name: digits}",
            "{name: digits, classes: [cat, {}, {}]}",
            "classes[1] = {}: should be a valid string (and 1 more)",
        ),
        ("{name: digits}", "{name: digits, classes: []}", "= []: should be a valid integer, or a list, such as [cat,"),
        ("multipliers: [1, 2]", "multipliers: 2", "model.multipliers = 2: should be a valid list, such as [1]"),
        ("features: digits, ", "precision: bf16, ", "evaluation.precision = bf16: the features digits have fp32 only"),
        ("features: digits, ", "inception_weights: w.pth, ", "inception_weights = w.pth: not for the features digits"),
        (
            "T: [4]",
            "T: [4]\n  guidance_scale: [1]",
            "not a key of training or sampling; write w, which is the scale less 1",
        ),
        ("batch_size: 50", "cfg_scale: 1.5", "sampling.cfg_scale: unknown key; write w, which is the scale less 1"),
        ("steps: 10", "scale: 2", "training.scale: unknown key; known are preset, steps"),
        ("features: digits, ", "precision: fp16, ", "evaluation.precision = 'fp16': should be one of 'fp32' or 'bf16'"),
        ("T: [4]", "T: [4, 1]", "grid.T[1] = 1: should be greater than or equal to 2"),
        ("[0, 0.1, 4]", "[0, .nan]", "grid.w[1] = nan: should be a finite number"),
        ("[0, 0.1, 4]", "[0, nan]", "grid.w[1] = 'nan': should be a valid number"),
        ("[0, 0.1, 4]", "[0, .inf]", "grid.w[1] = inf"),
        ("[0, 0.1, 4]", "[0, 0.0]", "grid.w[1] = 0.0: stands in the list twice"),
        ("[fid, is]", "[fid, fid]", "evaluation.metrics[1] = fid: stands in the list twice"),
        ("name: small", f"name: {'a' * 101}", "beginning with a letter or digit, 100 at most"),
        (
            "[0.1, 0.5]",
            "[0]",
            "w = 0.1 with p_uncond = 0: the null class was never trained; take p_uncond > 0, or w = 0",
        ),
        ("[0.1, 0.5]", "[1]", "w = 0 with p_uncond = 1: the classes were never trained; take p_uncond < 1, or w = -1"),
        ("[0.1, 0.5]", "[1]\n  guidance: [score-scale]", "were never trained; take p_uncond < 1"),
        ("T: [4]", "T: []", "grid.T = []: an axis needs at least one value"),
        ("T: [4]", "T: 4", "grid.T = 4"),
        (GRID, " []", "grid = []: should name at least one axis"),
        (GRID, " [{}]", "grid[0] = {}: should name at least one axis"),
        (GRID, " [{w: [0]}, {w: 3}]", "grid[1].w = 3: should be a valid list"),
        (GRID, " [{w: [0, a]}]", "grid[0].w[1] = 'a': should be a valid number"),
        (GRID, " [{w: [0]}, {t: [0]}]", "grid[1].t: not a key of training or sampling; did you mean T?"),
        ("T: [4]", "T: [4]\n  on: [unconditional]", "sampling.on = unconditional: only guidance classifier has it"),
        ("T: [4]", "temperature: [-1]", "grid.temperature[0] = -1: should be greater than or equal to 0"),
        ("batch_size: 50", "sampler: ddim, temperature: 0.5", "sampling.temperature = 0.5: ddim has no noise"),
        ("[0, 0.1, 4]", "[-1]\n  guidance: [score-scale]", "w = -1 with guidance score-scale: 1 + w scales the score"),
        (
            "[0.1, 0.5]",
            "[0]\n  guidance: [classifier]\n  on: [unconditional]",
            "the null class was never trained; take p_uncond > 0, or leave out on: unconditional",
        ),
        ("[0.1, 0.5]", "[1]\n  guidance: [classifier]", "never trained; take p_uncond < 1, or on: unconditional"),
        ("grid:", "classifier: {model: {chanels: 3}}\ngrid:", "classifier.model.chanels: unknown key; did you mean"),
        ("grid:", "classifier: {modle: 3}\ngrid:", "classifier.modle: unknown key; did you mean model?"),
        ("grid:", "classifier: 3\ngrid:", "classifier = 3: should be keys with values, such as {model: ...}"),
        ("{name: unet, channels: 16, multipliers: [1, 2]}", "{name: gaussians}", "it knows the data set gaussians"),
        ("dataset: {name: digits}", "dataset: {name: gaussians}", "take model: {name: gaussians}"),
        ("T: [4]", "seed: [1]", "grid.seed: training and sampling both have one; write training.seed"),
        ("T: [4]", "batch_size: [1]", "training and sampling both have one; write training.batch_size"),
        ("T: [4]", "recompute: [true]", "grid.recompute: what is kept of a step makes no other network; set training."),
        ("T: [4]", "micro_batch_size: [1]", "grid.micro_batch_size: how a batch is divided makes no other network"),
        ("[0, 0.1, 4]", "[1.0e+39]", "w = 1e+39: float32 does not hold it; take a w within 3e+38"),
        ("T: [4]", "t: [4]", "grid.t: not a key of training or sampling; did you mean T?"),
        ("T: [4]", "sampling.batch_size: [4]", "does not change the images"),
        ("T: [4]", "preset: [adm-64]", "grid.preset: not a key of training or sampling"),
        ("batch_size: 50", "sampler: dim", "sampling.sampler = 'dim': should be one of 'ancestral' or 'ddim'"),
        (
            "dataset: {name: digits}",
            "dataset: {name: folder, path: 2020}",
            "dataset.path = 2020: should be text; put it",
        ),
        ("name: small", "name: 1e4", "name = 10000.0: should be text; put it in quotes"),
        (
            "{name: unet, channels: 16, multipliers: [1, 2]}",
            "{factory: 'a:b', arguments: {x: [1, {y: .nan}]}}",
            "model.arguments = {'x': [1, {'y': nan}]}: nan is no finite number; give it as text",
        ),
        ("batch_size: 50", "clip: no", "sampling.clip = 'no': should be a valid boolean"),
        ("name: small", "name: ../up", "name = '../up': should be a plain folder name"),
        ("features: digits", "features: inception-64", "has no logits for the Inception Score"),
        ("features: digits", "features: fashion-mnist", "made for the data set fashion-mnist only"),
        ("name: small", "name: [", "line 4"),
        ("name: unet, channels: 16", "preset: adm-65", "model.preset = 'adm-65': should be one of"),
        ("name: unet, channels: 16", "chanels: 16", "model.chanels: unknown key; did you mean channels?"),
        ("name: unet, channels: 16", "factori: 'a:b'", "model.factori: unknown key; did you mean factory?"),
        ("name: unet, channels: 16", "chekpoint: a.pt", "model.chekpoint: unknown key; did you mean checkpoint?"),
        ("name: unet", "name: gaussian", "should be one of 'unet' or 'gaussians'; did you mean gaussians?"),
        ("{name: unet, channels: 16, multipliers: [1, 2]}", "3", "model = 3: should be keys with values"),
        ("{name: unet, channels: 16, multipliers: [1, 2]}", "{checkpoint: a.pt}", "model.format: missing"),
        ("{name: unet, channels: 16, multipliers: [1, 2]}", "{checkpoint: a.pt, format: adm}", "training: nothing is"),
        ("{name: unet, channels: 16, multipliers: [1, 2]}", "{factory: net}", "model.factory = 'net': should be pack"),
    ],
)
def test_bad_input_is_one_line_with_file_key_and_value(sweep, old, new, said):
    path = sweep(old, new)
    with pytest.raises(UserError) as error:
        load_sweep(path)
    assert str(error.value).startswith(f"{path}: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_label_says_both_conventions_however_w_is_written(sweep):
    for key in ("w", "sampling.w"):
        assert "w 0.1 (scale 1.1)" in cells(sweep("w: [0, 0.1, 4]", f"{key}: [0, 0.1, 4]"))[1].label


def test_networks_of_a_sweep_are_told_apart_by_all_that_it_varies_in_them(sweep):
    found = networks_of(cells(sweep("p_uncond: [0.1, 0.5]", "p_uncond: [0.1]\n  training.seed: [0, 1]")))
    assert [network.label for network in found] == ["p_uncond 0.1, training.seed 0", "p_uncond 0.1, training.seed 1"]
    assert [network.label for network in networks_of(cells(sweep()))] == ["p_uncond 0.1", "p_uncond 0.5"]


@pytest.mark.parametrize(("own", "seeds"), [("", [0, 1]), ("classifier: {training: {seed: 3}}\n", [])])
def test_classifiers_too_unless_one_serves_all(sweep, own, seeds):
    grid = "grid:\n  guidance: [classifier]\n  training.seed: [0, 1]\n  training.p_uncond: [0.1]"
    found = networks_of(cells(sweep("grid:\n  p_uncond: [0.1, 0.5]", f"{own}{grid}")))
    said = [network.label for network in found if network.kind == "classifier"]
    assert said == ([f"classifier, training.seed {seed}" for seed in seeds] or ["classifier"])


def test_cells_that_measure_otherwise_or_more_images_have_the_same_images(sweep):
    def made(old="", new="", **names):
        return [cell.images_id for cell in cells(sweep(old, new), **names)]

    first = made()
    assert len(set(first)) == 6
    assert made("samples: 100", "samples: 1000") == made("[fid, is]", "[fid]") == made(features="g") == first
    for old, new in ("samples: 100", "samples: 100, seed: 1"), ("steps: 10", "steps: 11"), ("T: [4]", "T: [5]"):
        assert not set(made(old, new)) & set(first)
    assert not set(made(data="e")) & set(first)


@pytest.mark.parametrize(
    "text", ["", "just words", "- a\n- list", "grid: {}", "\x00\x01", "a: &a [*a]", "? [1]\n: 2", "[" * 5000]
)
def test_what_is_no_sweep_file_is_refused(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"bad\.yaml"):
        load_sweep(path)


def test_an_empty_grid_says_what_a_grid_is(sweep):
    path = sweep()
    path.write_text(BASE[: BASE.index("grid:")] + "grid: {}\n")
    with pytest.raises(UserError, match=r"grid = \{\}: should name at least one axis"):
        load_sweep(path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        load_sweep(path)


PRETRAINED = "name: small\ndataset: {name: digits}\nmodel: MODEL\nsampling: {samples: 100}\ngrid: {w: WS, T: [4]}\n"
ADM = "{checkpoint: a.pt, format: adm}"


@pytest.mark.parametrize(
    ("model", "ws", "said"),
    [
        (ADM, "[0, 1]", "w = 1: ADM's released networks have no null class; with guidance cfg take w: [0]"),
        ("{factory: 'a.b:c'}", "[1]", "take model.p_uncond > 0, or w = 0 only"),
        (ADM, "[0], p_uncond: [0.1]", "grid.p_uncond: nothing is trained where the model exists already"),
        (ADM, "[0], seed: [0, 1]", "grid.seed: training and sampling both have one; write sampling.seed"),
    ],
)
def test_networks_that_exist_are_guided_only_if_they_know_the_null_class(tmp_path, model, ws, said):
    path = tmp_path / "sweep.yaml"
    path.write_text(PRETRAINED.replace("MODEL", model).replace("WS", ws))
    with pytest.raises(UserError) as error:
        load_sweep(path)
    assert said in str(error.value)
    assert "training.seed" not in str(error.value)


def test_a_classifier_that_is_asked_at_no_w_need_not_be_described(tmp_path):
    path = tmp_path / "sweep.yaml"
    guided = PRETRAINED.replace("MODEL", "{factory: 'a.b:c'}").replace(
        "samples: 100", "samples: 100, guidance: classifier"
    )
    path.write_text(guided.replace("WS", "[0]"))
    assert networks_of(make_cells(load_sweep(path), data="d", features="f", weights="a")) == []
    path.write_text(guided.replace("WS", "[0, 1]"))
    with pytest.raises(UserError, match=r"classifier\.model: missing; guidance classifier trains one"):
        load_sweep(path)


def test_cells_of_networks_that_exist_are_named_by_their_weights(tmp_path):
    path, again = tmp_path / "sweep.yaml", tmp_path / "again.yaml"
    path.write_text(PRETRAINED.replace("MODEL", "{factory: 'a.b:c', p_uncond: 0.2}").replace("WS", "[0, 1]"))
    again.write_text(yaml.safe_dump(resolved(load_sweep(path))))
    first, second = (make_cells(load_sweep(path), data="d", features="f", weights=name) for name in "ab")
    assert [cell.training.p_uncond for cell in first] == [0.2, 0.2]
    assert len({cell.checkpoint_id for cell in first + second}) == 2
    assert not {cell.id for cell in first} & {cell.id for cell in second}
    other_data = make_cells(load_sweep(path), data="e", features="f", weights="a")
    assert not {cell.checkpoint_id for cell in first} & {cell.checkpoint_id for cell in other_data}
    assert not {cell.id for cell in first} & {cell.id for cell in other_data}
    resolved_cells = make_cells(load_sweep(again), data="d", features="f", weights="a")
    assert [cell.id for cell in resolved_cells] == [cell.id for cell in first]


@pytest.mark.parametrize(
    ("name", "batch_size", "learning_rate", "steps", "dropout"),
    [("adm-64", 2048, 3e-4, 400_000, 0.1), ("adm-128", 256, 1e-4, 2_700_000, 0.0)],
)
def test_the_presets_train_as_is_published(name, batch_size, learning_rate, steps, dropout):
    """Dhariwal & Nichol 2021, table 11; the steps are Ho & Salimans'."""
    found = Training(preset=name)
    assert (found.batch_size, found.learning_rate, found.steps) == (batch_size, learning_rate, steps)
    assert (found.ema_decay, found.warmup_steps, found.weight_decay, found.gradient_clip) == (0.9999, 0, 0, 0)
    assert Model(preset=name).dropout == dropout


def test_a_preset_fills_in_what_is_not_given_and_is_the_same_as_its_keys_written_out(sweep, tmp_path):
    path = sweep("{name: unet, channels: 16, multipliers: [1, 2]}", "{preset: adm-64, dropout: 0.2}")
    path.write_text(path.read_text().replace("{steps: 10,", "{preset: adm-64, steps: 10,"))
    spec = load_sweep(path)
    assert (spec.model.channels, spec.model.head_channels, spec.model.dropout) == (192, 64, 0.2)
    assert (spec.training.batch_size, spec.training.steps, spec.training.ema_decay) == (2048, 10, 0.9999)
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(resolved(spec)))
    assert "preset" not in again.read_text()
    assert [cell.id for cell in cells(again)] == [cell.id for cell in cells(path)]


def test_heads_of_a_preset_give_way_to_channels_a_head(sweep, tmp_path):
    path = sweep("{name: unet, channels: 16, multipliers: [1, 2]}", "{preset: adm-128, head_channels: 64}")
    assert (load_sweep(path).model.heads, load_sweep(path).model.head_channels) == (None, 64)
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(resolved(load_sweep(path))))
    assert [cell.id for cell in cells(again)] == [cell.id for cell in cells(path)]
    plain = sweep("{name: unet, channels: 16, multipliers: [1, 2]}", "{preset: adm-128}")
    model = load_sweep(plain).model
    assert model.heads == 4
    beside = ClassifierSection.model_validate({"model": {"preset": "adm-64"}}).model_beside(model)
    assert (beside.channels, beside.heads, beside.head_channels) == (192, None, 64)
    kept = ClassifierSection.model_validate({"model": {"channels": 64}}).model_beside(model)
    assert (kept.channels, kept.heads) == (64, 4)


def test_where_there_is_attention_is_a_set(sweep):
    one, other = (sweep("channels: 16", f"channels: 16, attention: {sides}") for sides in ("[8, 4]", "[4, 8, 4]"))
    assert [cell.id for cell in cells(one)] == [cell.id for cell in cells(other)]
    assert [cell.id for cell in cells(one)] != [cell.id for cell in cells(sweep())]


def test_how_training_is_divided_does_not_change_the_identity(sweep):
    divided = sweep("steps: 10", "steps: 10, micro_batch_size: 4, recompute: true")
    before = {cell.id for cell in cells(divided)}
    assert {cell.id for cell in cells(sweep())} == before
