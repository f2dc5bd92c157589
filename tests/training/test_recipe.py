import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.errors import RecipeError
from mien.recipes import RECIPES, find_recipe
from mien.training.recipe import Recipe


def test_the_baseline_is_what_it_grew_from():
    recipe = find_recipe("baseline")
    assert (recipe.rotation, recipe.zoom, recipe.shift, recipe.flip) == (0.1, 0.1, 0.05, True)
    assert (recipe.learning_rate, recipe.batch_size, recipe.epochs, recipe.seed) == (1e-3, 64, 50, 42)
    assert (recipe.stop_patience, recipe.plateau_patience, recipe.plateau_factor) == (10, 5, 0.5)
    assert (recipe.minimum_learning_rate, recipe.validation_share, recipe.class_weights) == (1e-5, 0.2, True)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_named_after_its_file_and_promises(name):
    assert find_recipe(name).name == name
    assert f"Run: mien train {name}" in RECIPES[name].__doc__


def test_a_recipe_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        find_recipe("baseline").epochs = 3


@pytest.mark.parametrize("name", RECIPES)
def test_json_round_trip(name):
    recipe = find_recipe(name)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(
    ("assignment", "field", "value"),
    [
        ("epochs=3", "epochs", 3),
        ("learning_rate=3e-4", "learning_rate", 3e-4),
        ("learning_rate=1", "learning_rate", 1.0),
        ("class_weights=false", "class_weights", False),
        ("class_weights=False", "class_weights", False),
        ("model=compact", "model", "compact"),
        ("precision=mixed_bfloat16", "precision", "mixed_bfloat16"),
    ],
)
def test_any_field_can_be_overridden(assignment, field, value):
    changed = find_recipe("baseline").override(assignment)
    assert getattr(changed, field) == value
    assert dataclasses.replace(changed, **{field: getattr(find_recipe("baseline"), field)}) == find_recipe("baseline")


@pytest.mark.parametrize(
    ("assignment", "answer"),
    [
        ("epoch=3", "there is no choice 'epoch'; expected one of batch_size, class_weights, curriculum"),
        ("epochs", "expected field=value"),
        ("epochs=many", "epochs is 'many'; expected a whole number"),
        ("epochs=0", "epochs is 0; expected a whole number from 1"),
        ("epochs=true", "epochs is True; expected a whole number"),
        ("epochs=2.5", "epochs is 2.5; expected a whole number"),
        ("learning_rate=-1", "learning_rate is -1.0; expected a number above 0"),
        ("zoom=1.5", "zoom is 1.5"),
        ("validation_share=1", "validation_share is 1.0"),
        ("precision=float8", "precision is 'float8'; expected one of float32, mixed_bfloat16"),
        ("class_weights=2", "class_weights is 2; expected true or false"),
        ("seed=-1", "seed is -1"),
        ("seed=5000000000", "seed is 5000000000"),
        ("learning_rate=Infinity", "learning_rate is inf"),
        ("focal_gamma=1e999", "focal_gamma is inf"),
        ("model=baselin", "model is 'baselin'; expected one of baseline, "),
        ("focal_gamma=-1", "focal_gamma is -1.0; expected a number from 0"),
        ("focal_alpha=1", "focal_alpha is 1.0; expected a share between 0 and 1"),
        (
            "weights=imagenet",
            "weights is 'imagenet'; expected none with baseline, or a model of resnet50, efficientnet",
        ),
        ("frozen_epochs=2", "frozen_epochs is 2; expected 0 with baseline, or a model of resnet50, efficientnet"),
        ("targets=teacher_views", "class_weights is True; expected false where teachers look on"),
    ],
)
def test_a_wrong_field_or_value_answers_with_the_right_ones(assignment, answer):
    with pytest.raises(RecipeError) as caught:
        find_recipe("baseline").override(assignment)
    assert answer in str(caught.value)
    assert "\n" not in str(caught.value)


def test_changes_cannot_be_made_stronger_than_a_whole():
    with pytest.raises(RecipeError, match="stronger_factor is 15.0; expected less than 10"):
        find_recipe("stronger_classes").override("stronger_factor=15")
    unchanged = find_recipe("stronger_classes").override("rotation=0", "zoom=0", "shift=0")
    assert unchanged.stronger_names == ("fearful", "sad")


def test_a_class_without_a_name_is_refused():
    with pytest.raises(
        RecipeError, match="stronger_classes is 'fearful,'; expected names of classes with commas between"
    ):
        find_recipe("stronger_classes").override("stronger_classes=fearful,")


def test_a_class_may_be_called_by_a_number():
    assert find_recipe("baseline").override("oversample=1").oversample == "1"


def test_a_backbone_may_start_from_nothing():
    assert find_recipe("resnet50").override("weights=none", "frozen_epochs=0", "curriculum=none").weights == "none"


def test_an_unknown_recipe_answers_with_the_right_ones():
    with pytest.raises(RecipeError, match="no recipe 'basline'; expected one of baseline"):
        find_recipe("basline")


@given(field=st.sampled_from(sorted(find_recipe("baseline").to_dict())), text=st.text(max_size=20))
def test_a_value_is_taken_or_refused_in_one_line(field, text):
    try:
        taken = find_recipe("baseline").override(f"{field}={text}")
    except RecipeError as error:
        message = str(error)
        assert message.startswith(f"{field} is ")
    else:
        assert type(getattr(taken, field)) is type(getattr(find_recipe("baseline"), field))
