"""From a refused request body to an error for every wrong field, in both languages.

msgspec stops at the first mistake, which is right for speed; a refused body is looked at again here,
field by field, so that a person can mend all of them at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import msgspec

from yuanlian.kit.errors import AppError, FieldError, ValidationError
from yuanlian.kit.i18n import Text

MALFORMED = Text("不是合法的 JSON", "is not valid JSON")
MISSING = Text("缺少必填字段", "is required")
UNKNOWN = Text("未知字段", "is not a known field")
_TYPES = {
    "str": ("字符串", "a string"),
    "int": ("整数", "an integer"),
    "float": ("数字", "a number"),
    "bool": ("布尔值", "a boolean"),
    "object": ("对象", "an object"),
    "array": ("数组", "an array"),
    "null": ("空值", "null"),
}
_EXPECTED = re.compile(r"^Expected `([^`]+)`, got")
_LENGTH = re.compile(r"^Expected `(?:str|array)` of length (>=|<=) (\d+)")
_RANGE = re.compile(r"^Expected `(?:int|float)` (>=|<=|>|<) (-?[\d.]+)")
_PATTERN = re.compile(r"^Expected `str` matching regex")
_ENUM = re.compile(r"^Invalid enum value (.+?)(?: - at|$)")
_PATH = re.compile(r" - at `\$\.?([^`]*)`$")


def explain(body: bytes, type_: Any) -> AppError:
    """Why ``body`` is not a ``type_``; always at least one detail."""
    try:
        value = msgspec.json.decode(body)
    # msgspec looks at the text of strings last, and leaves that error to Python.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ValidationError(details=[FieldError("", MALFORMED)])
    return explain_value(value, type_)


def explain_value(value: Any, type_: Any) -> AppError:
    """The same for plain JSON values."""
    problems = [
        # A client names its own fields; ``data`` is only where the envelope keeps them.
        problem._replace(field=problem.field.removeprefix("data."))
        for problem in _problems(value, type_, "")
    ]
    return ValidationError(details=problems[:100])


def _problems(value: Any, type_: Any, path: str) -> Iterator[FieldError]:
    struct = get_origin(type_) or type_
    if not (isinstance(struct, type) and issubclass(struct, msgspec.Struct)):
        yield from _convert(value, type_, path)
        return
    if not isinstance(value, dict):
        yield FieldError(path, _wrong_type("object"))
        return
    fields = {f.encode_name: f for f in msgspec.structs.fields(type_)}
    if struct.__struct_config__.forbid_unknown_fields:
        for name in value.keys() - fields.keys():
            yield FieldError(_join(path, str(name)[:64]), UNKNOWN)
    for name, field in fields.items():
        where = _join(path, name)
        if name in value:
            yield from _problems(value[name], _struct_of(field.type, value[name]), where)
        elif field.required:
            yield FieldError(where, MISSING)


def _struct_of(type_: Any, value: Any) -> Any:
    """For ``Struct | None`` and a value that is an object, the struct: its fields can be told apart."""
    structs = [t for t in get_args(type_) if isinstance(t, type) and issubclass(t, msgspec.Struct)]
    return structs[0] if len(structs) == 1 and isinstance(value, dict) and not _is_struct(type_) else type_


def _is_struct(type_: Any) -> bool:
    origin = get_origin(type_) or type_
    return isinstance(origin, type) and issubclass(origin, msgspec.Struct)


def _convert(value: Any, type_: Any, path: str) -> Iterator[FieldError]:
    if get_origin(type_) is list and isinstance(value, list):
        (item_type,) = get_args(type_)
        for index, item in enumerate(value):
            yield from _problems(item, item_type, f"{path}[{index}]")
        return
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        yield translate(str(error), path)


def translate(message: str, path: str = "") -> FieldError:
    """One msgspec message as a field error; ``path`` leads the path that the message names."""
    found = _PATH.search(message)
    inner = found.group(1) if found else ""
    where = _join(path, inner) if inner else path
    return FieldError(where, _text(message))


def _text(message: str) -> Text:
    if match := _LENGTH.match(message):
        sign, size = match.groups()
        more = sign == ">="
        return Text(
            f"长度应{'不少于' if more else '不超过'} {size}",
            f"must have a length of {'at least' if more else 'at most'} {size}",
        )
    if match := _RANGE.match(message):
        sign, bound = match.groups()
        zh = {">=": "不小于", "<=": "不大于", ">": "大于", "<": "小于"}[sign]
        en = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}[sign]
        return Text(f"应{zh} {bound}", f"must be {en} {bound}")
    if _PATTERN.match(message):
        return Text("格式不正确", "has the wrong format")
    if match := _ENUM.match(message):
        return Text(f"不支持的取值 {match.group(1)}", f"{match.group(1)} is not one of the allowed values")
    if match := _EXPECTED.match(message):
        return _wrong_type(match.group(1))
    return Text("取值不正确", "is not valid")


def _wrong_type(expected: str) -> Text:
    names = [_TYPES.get(part.strip(), (part.strip(), part.strip())) for part in expected.split("|")]
    zh = " 或 ".join(name[0] for name in names)
    en = " or ".join(name[1] for name in names)
    return Text(f"应为{zh}", f"must be {en}")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and not name.startswith("[") else path + name
