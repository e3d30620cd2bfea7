"""What several nouns say in the same words."""

from __future__ import annotations

from yuanlian.kit.i18n import Text

NO_CLASS = Text("班级不存在", "No such class")
NO_STUDENT = Text("幼儿不存在", "No such child")
NO_TENANT = Text("租户不存在", "No such kindergarten")
UNKNOWN_CLASS = Text("没有这个班级", "is not a class of this kindergarten")
"""Of a field or cell that names one."""
