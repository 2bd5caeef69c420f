"""Serializers: what survives them, which options they refuse, and how they are selected."""

import base64
import bz2
import datetime as dt
import decimal
import enum
import json
import subprocess
import sys
import threading
import uuid
import zlib
from collections import OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import cloudpickle
import pydantic
import pytest

from core_engine.exceptions import SerializationError
from core_engine.serializers import (
    CompressedJSONSerializer,
    CompressedPickleSerializer,
    CompressedSerializer,
    JSONSerializer,
    PickleSerializer,
    Serializer,
    resolve_serializer,
    serializer_from_dict,
)
from tests.support.ids import stable_repr


class Model(pydantic.BaseModel):
    number: int
    when: dt.datetime | None = None
    inner: "Model | None" = None
    aliased: str = pydantic.Field("a", alias="other-name")


@dataclass
class Point:
    x: int
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FrozenPoint:
    x: int
    other: Point


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    pass


Pair = namedtuple("Pair", "left right")


class Plain:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


SIMPLE = [
    0,
    -3,
    2**80,
    1.5,
    "text",
    "ünï \ud800",
    b"\x00\xff",
    "",
    True,
    None,
    [],
    {},
    [1, [2, {"a": None}]],
    {"a": {"b": 1}},
]
RICH = [
    uuid.UUID(int=7),
    Model(number=1, when=dt.datetime(2026, 1, 2, tzinfo=dt.UTC), inner=Model(number=2, **{"other-name": "b"})),
    Point(1, ["a"]),
    FrozenPoint(1, Point(2)),
    Colour.RED,
    Level.HIGH,
    Text("t"),
    Pair(1, (2,)),
    Plain({"k": Plain(1)}),
    (1, (2, 3), []),
    {1, 2},
    frozenset({"a"}),
    {1: "int key", "1": "text key", (1, 2): "tuple key", None: 0},
    {"__class__": "os.getcwd", "args": []},
    {"__class__": 1},
    {"type": "literal", "value": 3},
    {"type": "reference", "storage_key": "x"},
    dt.datetime(2026, 1, 2, 3, 4, 5, 6),
    dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    dt.datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    dt.date(2026, 1, 2),
    dt.time(1, 2, 3),
    dt.timedelta(days=-1, microseconds=5),
    decimal.Decimal("1.10"),
    complex(1, -2),
    bytearray(b"ab"),
    Path("/a/b"),
    OrderedDict(b=1, a=2),
    defaultdict(list, {"a": [1]}),
    deque([1, 2], maxlen=3),
    range(3),
    int,
    json.dumps,
    Ellipsis,
]
SERIALIZERS = ["pickle", "json", "compressed/pickle", "compressed/json"]


@pytest.mark.behaviour("RES-14")
@pytest.mark.parametrize("value", [*SIMPLE, *RICH], ids=stable_repr)
@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_values_survive_every_serializer_with_their_types(serializer: str, value: Any) -> None:
    subject = resolve_serializer(serializer)
    restored = subject.loads(subject.dumps(value))
    assert restored == value
    assert type(restored) is type(value)


@pytest.mark.behaviour("RES-14")
@pytest.mark.parametrize(
    "exception", [ValueError("bad", 3), KeyError("k"), OSError(2, "no such file", "x"), KeyboardInterrupt()]
)
@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_exceptions_survive_every_serializer(serializer: str, exception: BaseException) -> None:
    subject = resolve_serializer(serializer)
    restored = subject.loads(subject.dumps(exception))
    assert type(restored) is type(exception)
    assert (restored.args, str(restored)) == (exception.args, str(exception))


@pytest.mark.behaviour("RES-14")
def test_a_subclass_is_selected_by_its_type_text() -> None:
    class Upper(Serializer):
        type = "test-upper"
        suffix: str = "!"

        def dumps(self, obj: Any) -> bytes:
            return (obj.upper() + self.suffix).encode()

        def loads(self, blob: bytes) -> Any:
            return blob.decode()

    selected = resolve_serializer("test-upper")
    assert type(selected) is Upper
    assert selected.loads(selected.dumps("a")) == "A!"
    assert serializer_from_dict(Upper(suffix="?").to_dict()) == Upper(suffix="?")
    with pytest.raises(ValueError, match="no option prefix.*suffix"):
        Upper(prefix="x")


@pytest.mark.behaviour("RES-14")
def test_the_type_of_a_built_in_serializer_cannot_be_taken() -> None:
    with pytest.raises(ValueError, match="'json' is taken"):

        class Mine(Serializer):
            type = "json"


def test_a_serializer_of_ones_own_may_be_written_with_a_constructor_of_its_own() -> None:
    class Own(Serializer):
        type: str = "test-own"  # type: ignore[misc]

        def __init__(self, n: int = 3) -> None:
            self.n = n

    assert resolve_serializer("test-own").n == 3  # type: ignore[attr-defined]


def test_mutable_defaults_of_options_are_not_shared() -> None:
    first, second = JSONSerializer(), JSONSerializer()
    assert first.dumps_kwargs is not second.dumps_kwargs


@pytest.mark.behaviour("RES-14")
@pytest.mark.parametrize("serializer", [*SERIALIZERS, CompressedSerializer(serializer="json", compressionlib="bz2")])
def test_a_serializer_is_made_again_from_its_description_as_json(serializer: Any) -> None:
    subject = resolve_serializer(serializer)
    described = json.loads(json.dumps(subject.to_dict()))
    again = serializer_from_dict(described)
    assert again.to_dict() == described
    assert again.loads(subject.dumps((1, 2))) == (1, 2)


@pytest.mark.behaviour("RES-POLICY-9")
@pytest.mark.parametrize("wrong", [3, None, b"json", JSONSerializer])
def test_what_is_no_serializer_is_a_type_error_that_lists_what_is_accepted(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"compressed/json.*pickle.*or a Serializer"):
        resolve_serializer(wrong)


def test_an_unknown_type_text_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'jsn'.*compressed/json.*json.*pickle"):
        resolve_serializer("jsn")


@pytest.mark.behaviour("RES-15")
def test_pickles_are_base64_of_cloudpickle() -> None:
    blob = PickleSerializer().dumps(lambda: 5)
    assert cloudpickle.loads(base64.b64decode(blob, validate=True))() == 5


@pytest.mark.behaviour("RES-15")
def test_another_pickle_library_is_named_by_its_dotted_name() -> None:
    subject = PickleSerializer(picklelib="pickle")
    assert subject.loads(subject.dumps({1: 2})) == {1: 2}
    assert resolve_serializer("pickle").picklelib == "cloudpickle"  # type: ignore[attr-defined]


@pytest.mark.behaviour("RES-15")
@pytest.mark.parametrize(
    ("library", "lacks"),
    [("nonexistent_lib", "nonexistent_lib"), ("string", "dumps and loads"), ("tests.results.half", "loads")],
)
def test_a_pickle_library_that_lacks_something_is_refused_by_name(library: str, lacks: str) -> None:
    with pytest.raises(ValueError, match=lacks):
        PickleSerializer(picklelib=library)


@pytest.mark.behaviour("RES-15")
def test_reading_with_another_version_of_the_pickle_library_warns() -> None:
    blob = PickleSerializer().dumps(1)
    described = PickleSerializer().to_dict()
    assert described["picklelib_version"] == cloudpickle.__version__
    assert serializer_from_dict(described).loads(blob) == 1
    with pytest.warns(RuntimeWarning, match=r"cloudpickle 0\.1\.0 and is read with"):
        assert serializer_from_dict({**described, "picklelib_version": "0.1.0"}).loads(blob) == 1


@pytest.mark.behaviour("RES-16")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dumps_kwargs": {"default": str}}, "default.*object_encoder"),
        ({"loads_kwargs": {"object_hook": dict}}, "object_hook.*object_decoder"),
        ({"jsonlib": "nonexistent_lib"}, "nonexistent_lib"),
        ({"jsonlib": "string"}, "dumps and loads"),
        ({"object_encoder": "json.nothing"}, r"json\.nothing"),
        ({"object_decoder": "nonexistent_lib.f"}, "nonexistent_lib"),
        ({"object_encoder": "json.__doc__"}, "no function but str"),
    ],
)
def test_unusable_options_of_json_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JSONSerializer(**options)


@pytest.mark.behaviour("RES-16")
def test_more_keywords_go_to_the_json_library() -> None:
    subject = JSONSerializer(
        dumps_kwargs={"indent": 1, "sort_keys": True}, loads_kwargs={"parse_float": decimal.Decimal}
    )
    assert subject.dumps({"b": 1, "a": 0.5}) == b'{\n "a": 0.5,\n "b": 1\n}'
    assert subject.loads(b"[0.5]") == [decimal.Decimal("0.5")]


def count_encoder(value: Any) -> Any:
    return f"<{type(value).__name__}>"


def key_decoder(fields: dict[str, Any]) -> Any:
    return list(fields)


@pytest.mark.behaviour("RES-16")
def test_encoder_and_decoder_are_functions_named_by_their_dotted_names() -> None:
    subject = JSONSerializer(object_encoder=f"{__name__}.count_encoder", object_decoder=f"{__name__}.key_decoder")
    assert subject.dumps([{1}, 2]) == b'["<set>", 2]'
    assert subject.loads(b'{"a": {"b": 1}}') == ["a"]


@pytest.mark.behaviour("RES-16")
def test_without_encoder_and_decoder_json_is_plain() -> None:
    subject = JSONSerializer(object_encoder=None, object_decoder=None)
    assert subject.loads(subject.dumps((1, {"__class__": "uuid.UUID"}))) == [1, {"__class__": "uuid.UUID"}]
    with pytest.raises(SerializationError, match="of type set"):
        subject.dumps({1})


@pytest.mark.behaviour("RES-16")
def test_unknown_types_are_written_with_their_class_path() -> None:
    written = json.loads(JSONSerializer().dumps([uuid.UUID(int=7), Point(1)]))
    assert written[0] == {"__class__": "uuid.UUID", "data": "00000000-0000-0000-0000-000000000007"}
    assert written[1] == {"__class__": f"{__name__}.Point", "new": [], "state": {"x": 1, "tags": []}}


@pytest.mark.behaviour("RES-16")
def test_json_names_the_part_whose_class_it_could_not_find_again() -> None:
    class Local:
        pass

    with pytest.raises(SerializationError, match=r"value\['a'\]\[1\], of type .*Local .*cannot be found by its path"):
        JSONSerializer().dumps({"a": [1, Local()]})


def test_json_says_so_when_a_value_contains_itself() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(SerializationError, match="'json'.*RecursionError"):
        JSONSerializer().dumps(value)


@pytest.mark.behaviour("RES-17")
@pytest.mark.parametrize(("library", "module"), [("bz2", bz2), ("zlib", zlib)])
def test_any_module_with_compress_and_decompress_will_do(library: str, module: Any) -> None:
    subject = CompressedSerializer(serializer=JSONSerializer(), compressionlib=library)
    blob = subject.dumps([1] * 1000)
    assert module.decompress(base64.b64decode(blob)) == JSONSerializer().dumps([1] * 1000)
    assert subject.loads(blob) == [1] * 1000


@pytest.mark.behaviour("RES-17")
def test_compressed_serializers_can_hold_any_other() -> None:
    assert CompressedSerializer(serializer="json").serializer == JSONSerializer()
    assert CompressedPickleSerializer().serializer == PickleSerializer()
    assert CompressedJSONSerializer().compressionlib == "lzma"
    with pytest.raises(ValueError, match="needs the option 'serializer'"):
        CompressedSerializer()
    with pytest.raises(ValueError, match="compress and decompress"):
        CompressedSerializer(serializer="json", compressionlib="json")
    with pytest.raises(TypeError, match="or a Serializer"):
        CompressedSerializer(serializer=3)


@pytest.mark.behaviour("RES-17")
@pytest.mark.parametrize(
    "kind", [PickleSerializer, JSONSerializer, CompressedJSONSerializer, CompressedPickleSerializer]
)
def test_unknown_options_of_any_serializer_are_refused(kind: type[Serializer]) -> None:
    with pytest.raises(ValueError, match="no option colour"):
        kind(colour="red")
    with pytest.raises(ValueError, match="no option colour"):
        serializer_from_dict({"type": kind.type, "colour": "red"})


def test_serializers_are_equal_by_class_and_options() -> None:
    assert PickleSerializer() == PickleSerializer()
    assert hash(PickleSerializer()) == hash(PickleSerializer())
    assert PickleSerializer() != PickleSerializer(picklelib="pickle")
    assert PickleSerializer() != JSONSerializer()
    assert cloudpickle.loads(cloudpickle.dumps(CompressedJSONSerializer())) == CompressedJSONSerializer()
    assert repr(CompressedSerializer(serializer="pickle")).startswith(
        "CompressedSerializer(serializer=PickleSerializer("
    )


@pytest.mark.parametrize("serializer", ["pickle", "compressed/pickle"])
def test_a_value_that_cannot_be_pickled_is_named_by_path_and_type_and_says_what_to_do(serializer: str) -> None:
    with pytest.raises(SerializationError, match=r"value\['a'\]\.value, of type _thread\.lock .*persist_result=False"):
        resolve_serializer(serializer).dumps({"a": Plain(threading.Lock())})


def test_importing_serializers_loads_neither_pydantic_nor_cloudpickle() -> None:
    heavy = "pydantic", "cloudpickle", "fsspec", "sqlalchemy", "lzma", "asyncio"
    code = (
        "import core_engine.serializers, core_engine.results.factory, sys;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
