"""A kindergarten's own roles."""
