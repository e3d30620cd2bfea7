"""What a single field may hold: the same rules for a request's body and a row of a spreadsheet."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from datetime import date

from yuanlian.kit.errors import FieldError, ValidationError
from yuanlian.kit.i18n import Text
from yuanlian.services.tenant.wording import UNKNOWN_CLASS

OLDEST_BIRTH = date(2000, 1, 1)

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# A mainland mobile number, or E.164 (ITU-T) for everybody else.
_PHONE = re.compile(r"1[0-9]{10}|\+[1-9][0-9]{6,14}")
# One @, a dotted host, nothing that could end a header line; RFC 5321 §4.5.3.1 for the lengths.
_EMAIL = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}"
)
# RFC 1123 §2.1; at least two labels, so that an address is not mistaken for a first label.
_HOST = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
)

REQUIRED = Text("缺少必填字段", "is required")
CONTROL = Text("不能含有控制字符", "must not contain control characters")


class Fields:
    """Checks values and collects everything that is wrong, so that a person can mend it all at once.

    Each check returns the value as it will be stored; after a complaint its value is of no use.
    """

    def __init__(self) -> None:
        self.errors: list[FieldError] = []

    def refuse(self, field: str, zh: str, en: str) -> None:
        self.errors.append(FieldError(field, Text(zh, en)))

    def done(self) -> None:
        """Raises ``ValidationError`` when anything was refused."""
        if self.errors:
            raise ValidationError(details=self.errors)

    def text(self, field: str, value: str, longest: int) -> str:
        """Trimmed, 1 to ``longest`` characters, without control characters."""
        value = value.strip()
        if not value:
            self.errors.append(FieldError(field, REQUIRED))
        elif len(value) > longest:
            self.refuse(field, f"长度应不超过 {longest}", f"must have a length of at most {longest}")
        elif any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in value):
            self.errors.append(FieldError(field, CONTROL))
        return value

    def name(self, field: str, value: str) -> str:
        return self.text(field, value, 50)

    def relation(self, field: str, value: str) -> str:
        return self.text(field, value, 20)

    def birth_date(self, field: str, value: str, today: date) -> date:
        """ISO ``YYYY-MM-DD``, not in the future, not before ``OLDEST_BIRTH``."""
        try:
            day = date.fromisoformat(value) if _DATE.fullmatch(value) else None
        except ValueError:
            day = None
        if day is None:
            self.refuse(field, "应为 YYYY-MM-DD 格式的日期", "must be a date such as 2021-09-30")
            return today
        if day > today:
            self.refuse(field, "不能是将来的日期", "must not be in the future")
        elif day < OLDEST_BIRTH:
            self.refuse(field, f"不能早于 {OLDEST_BIRTH}", f"must not be before {OLDEST_BIRTH}")
        return day

    def phone(self, field: str, value: str) -> str:
        """A mainland mobile number (11 digits), or E.164 (``+`` and digits); spaces and dashes dropped."""
        value = re.sub(r"[\s-]", "", value)
        # The same person must be found again, however the number was written.
        value = re.sub(r"^\+86(?=1[0-9]{10}\Z)", "", value)
        if not _PHONE.fullmatch(value):
            self.refuse(
                field,
                "应为 11 位手机号，或以 + 开头的国际号码",
                "must be an 11-digit mobile number, or start with + and a country code",
            )
        return value

    def email(self, field: str, value: str) -> str:
        value = value.strip()
        if len(value) > 254 or not _EMAIL.fullmatch(value):
            self.refuse(field, "不是有效的邮箱地址", "is not an e-mail address")
        return value

    def host(self, field: str, value: str) -> str:
        """A lower-case host name of at least two labels, without port."""
        value = value.strip().lower()
        if not _HOST.fullmatch(value):
            self.refuse(field, "不是有效的域名", "is not a host name")
        return value

    def known(self, field: str, value: str, known: Collection[str]) -> str:
        """An id that must exist in this kindergarten."""
        if value not in known:
            self.errors.append(FieldError(field, UNKNOWN_CLASS))
        return value
