"""Which children somebody is tied to, and what follows from it."""

from yuanlian.services.tenant.access.attributes import NO_TIES, Attributes
from yuanlian.services.tenant.access.repository import attributes_of, attributes_of_many
from yuanlian.services.tenant.access.service import Access

__all__ = ["NO_TIES", "Access", "Attributes", "attributes_of", "attributes_of_many"]
