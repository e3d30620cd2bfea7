"""The people of a kindergarten: administration of its users."""
