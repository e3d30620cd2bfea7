"""Types that several request bodies share. Limits here only bound the input; the rules a person
should hear about in words are in ``fields``."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

# `$` of Python also matches before a last newline, and `\Z` is no ECMA-262, which OpenAPI asks for.
Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$(?!\n)", description="An opaque id")]
ShortText = Annotated[str, Meta(max_length=200)]
DateText = Annotated[str, Meta(max_length=32, extra_json_schema={"format": "date"})]
EmailText = Annotated[str, Meta(max_length=300, extra_json_schema={"format": "email"})]
PhoneText = Annotated[str, Meta(max_length=32)]
Gender = Literal["male", "female"]
StudentStatus = Literal["active", "graduated", "withdrawn"]
