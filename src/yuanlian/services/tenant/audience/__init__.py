"""Who hears what: realtime channels and the people an announcement reaches."""
