"""The ties between a user and the children of one kindergarten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Attributes:
    """What permission conditions know about a user in the tenant at hand.

    ``class_ids``: classes the user looks after (``user.classIds``). ``student_ids``: children the
    user answers for, whatever their status (``user.studentIds``). ``child_class_ids``: classes of
    those children who are active (``user.childClassIds``); a guardian may know the class, not the
    other children in it, which is why it is kept apart from ``class_ids``.
    """

    class_ids: frozenset[str] = frozenset()
    student_ids: frozenset[str] = frozenset()
    child_class_ids: frozenset[str] = frozenset()

    def as_user(self) -> dict[str, Any]:
        """The ``user`` of a CEL condition."""
        return {
            "classIds": sorted(self.class_ids),
            "studentIds": sorted(self.student_ids),
            "childClassIds": sorted(self.child_class_ids),
        }


NO_TIES = Attributes()
