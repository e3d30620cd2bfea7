"""Who works here, and with which classes."""
