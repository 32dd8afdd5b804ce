from dataclasses import dataclass, field

import pytest

from protos import config


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    capacity_bytes: int = 1
    """Bytes."""

    def __post_init__(self) -> None:
        if self.capacity_bytes <= 0:
            raise ValueError(f"capacity_bytes must be > 0, got {self.capacity_bytes}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    seed: int
    cache: Inner = field(default_factory=Inner)
    items: tuple[Item, ...] = ()


def load(tmp_path, text):
    file = tmp_path / "c.toml"
    file.write_text(text)
    return config.load(file, Outer)


def test_a_file_becomes_values(tmp_path):
    loaded = load(tmp_path, 'seed = 3\n[cache]\ncapacity_bytes = 8\n[[items]]\nname = "x"\n')
    assert loaded == Outer(seed=3, cache=Inner(capacity_bytes=8), items=(Item(name="x"),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = 1\nsed = 2", "unknown key 'sed'; did you mean 'seed'"),
        ("seed = 1\n[cache]\ncapacity_byte = 2", "'cache.capacity_byte'; did you mean 'capacity_b"),
        ("seed = 1\n[[items]]\nnaem = 'x'", r"unknown key 'items\[0\].naem'; did you mean 'name'"),
        ("seed = 'one'", r"Expected `int`, got `str` - at `\$.seed`"),
        ("", "missing required field `seed`"),
        ("seed = 1\n[cache]\ncapacity_bytes = 0", "capacity_bytes must be > 0, got 0"),
        ("seed = ", "is not valid TOML"),
    ],
)
def test_a_mistake_names_the_file_the_key_and_the_value(tmp_path, text, message):
    with pytest.raises(config.ConfigError, match=message) as caught:
        load(tmp_path, text)
    assert "c.toml" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(config.ConfigError, match=r"cannot read .*nowhere.toml: No such file"):
        config.load(tmp_path / "nowhere.toml", Outer)


def test_a_name_is_a_path_of_the_working_directory_or_else_a_shipped_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = config.packages() / "edge_node" / "configs" / "zoo-edge.toml"

    for name in ("zoo-edge.toml", "edge_node/configs/zoo-edge.toml", shipped):
        assert config.find(name, "edge_node/configs") == shipped

    own = tmp_path / "zoo-edge.toml"
    own.touch()
    assert config.find("zoo-edge.toml", "edge_node/configs").resolve() == own


def test_a_name_of_nothing_is_refused_and_the_shipped_files_are_listed(tmp_path):
    (tmp_path / "shipped.toml").touch()
    (tmp_path / "notes.txt").touch()

    with pytest.raises(
        config.ConfigError, match=r"there is no file no/such\.toml; .*: shipped\.toml$"
    ):
        config.find("no/such.toml", str(tmp_path))
