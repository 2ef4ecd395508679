import pytest

from nuner_embed.models.recipe import Recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": ()}, "layers must name"),
        ({"layers": (-1, -1)}, "layers must name each layer once"),
        ({"pooling": "max"}, "pooling must be one of first, last, mean"),
        ({"max_length": 2}, "at least 3"),
        ({"stride": 300}, "half of a window"),
        ({"stride": -1}, "half of a window"),
        ({"stride": 8.0}, "whole numbers"),
        ({"max_length": "512"}, "whole numbers"),
        ({"layers": ["-1"]}, "layers must be whole numbers"),
        ({"normalize": "no"}, "normalize must be true or false"),
    ],
)
def test_senseless_values_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**changes)


def test_round_trip_through_json_values():
    recipe = Recipe(layers=(-1, -7), pooling="mean", normalize=True, max_length=128, stride=16)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert Recipe.from_dict({}) == Recipe()


def test_an_unknown_key_is_refused():
    with pytest.raises(ValueError, match="has no field temperature"):
        Recipe.from_dict({"temperature": 5})


def test_layers_may_come_as_a_list():
    assert Recipe(layers=[-1, -7]) == Recipe(layers=(-1, -7))
    with pytest.raises(ValueError, match="a recipe is an object"):
        Recipe.from_dict([])


def test_a_new_length_takes_the_stride_along():
    assert Recipe(max_length=512, stride=128).replace(max_length=64).stride == 16
    assert Recipe().replace(layers=None, stride=None) == Recipe()
