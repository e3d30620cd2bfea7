"""Invitations of people who have an account already."""
