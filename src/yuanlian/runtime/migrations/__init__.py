"""The schema over time. Alembic runs only when the database is behind."""
